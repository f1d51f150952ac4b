"""The named questions, one file each. A question of your own is named `module:function`."""

from collections.abc import Callable

from kilolayer.studies.question import Question
from kilolayer.studies.questions import (
    actor_critic_depth,
    attribution,
    batch_depth,
    collector_learner,
    cost,
    depth,
    feedback,
    limits,
    recipe,
    seeds,
    stitching,
    test_time,
    threshold,
    width_depth,
)

QUESTIONS: dict[str, Callable[[], Question]] = {
    "depth": depth.question,
    "cost": cost.question,
    "threshold": threshold.question,
    "collector-learner": collector_learner.question,
    "attribution": attribution.question,
    "width-depth": width_depth.question,
    "actor-critic-depth": actor_critic_depth.question,
    "batch-depth": batch_depth.question,
    "feedback": feedback.question,
    "stitching": stitching.question,
    "recipe": recipe.question,
    "limits": limits.question,
    "seeds": seeds.question,
    "test-time": test_time.question,
}
