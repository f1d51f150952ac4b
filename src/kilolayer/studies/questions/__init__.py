"""The named questions. A question of your own is named `module:function`."""

import dataclasses
from collections.abc import Callable
from functools import partial

from kilolayer.studies.question import Question
from kilolayer.studies.questions import (
    curves,
    depth,
    factors,
    feedback,
    limits,
    recipe,
    seeds,
    stitching,
    test_time,
)
from kilolayer.studies.setups import BY_DEPTH, EXTREMES, with_training_goals

_QUESTIONS = (
    Question(
        "depth", "Does depth raise the score, where does it jump, and where does it saturate?",
        BY_DEPTH, depth.grids, depth.analyse, "depth",
    ),
    Question(
        "cost",
        "Which depth scores best at equal environment steps, updates, seconds and operations?",
        BY_DEPTH, depth.grids, curves.analyse_cost, "depth",
    ),
    Question(
        "threshold",
        "After how many environment steps does each depth reach 50 and 90 % of its score?",
        BY_DEPTH, depth.grids, curves.analyse_threshold, "depth",
    ),
    Question(
        "collector-learner", "Does depth help exploration, learning from given data, or both?",
        EXTREMES, factors.collector_learner_grids, factors.analyse_collector_learner, "collector",
    ),
    Question(
        "attribution",
        "How much do the objective, the recipe and depth each contribute to the gain?",
        EXTREMES, factors.attribution_grids, factors.analyse_attribution, "objective",
    ),
    Question(
        "width-depth",
        "Are deep or wide networks better, at equal parameters and at equal operations?",
        BY_DEPTH, depth.width_grids, depth.analyse_width, "held",
    ),
    Question(
        "actor-critic-depth", "Does depth help in the actor, in the critic, or in both?",
        BY_DEPTH, factors.actor_critic_grids, factors.analyse_actor_critic, "critic",
    ),
    Question(
        "batch-depth", "Do larger batches help deep networks more than shallow ones?",
        EXTREMES, factors.batch_depth_grids, factors.analyse_batch_depth, "batch",
    ),
    Question(
        "feedback",
        "How many bits per parameter do the contrastive objective and a sparse reward supply?",
        with_training_goals(BY_DEPTH), depth.grids, feedback.analyse, "depth",
    ),
    Question(
        "stitching", "Does depth help to reach far goals after training on near goals?",
        with_training_goals(stitching.SETUPS), depth.grids, stitching.analyse, "depth",
    ),
    Question(
        "recipe", "What fails when one stabiliser is removed from the recipe, shallow and deep?",
        EXTREMES, recipe.grids, recipe.analyse, "removed",
    ),
    Question(
        "limits", "At which depth do signals, gradients or representations fail?",
        limits.SETUPS, depth.grids, limits.analyse, "depth",
    ),
    Question(
        "seeds", "How many seeds does a claim about depth need, given the variance of these runs?",
        BY_DEPTH, depth.grids, seeds.analyse, "depth",
    ),
    Question(
        "test-time", "Can choosing among several action samples at test time replace depth?",
        BY_DEPTH, depth.grids, test_time.analyse, "depth",
    ),
)  # fmt: skip

# A function for each, as for a question of your own.
QUESTIONS: dict[str, Callable[[], Question]] = {
    question.name: partial(dataclasses.replace, question) for question in _QUESTIONS
}
