"""Evaluation of a grounding: success by split, failures and latency."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.base import SPLITS, Context, Example
from kilolayer.language.contexts import encode_examples
from kilolayer.language.evaluation_set import EvaluationSet, GoalPolicy, derangement
from kilolayer.language.evidence import BOUND, CHANCE, CORRECT, SHUFFLED, Evidence, Failure, Score
from kilolayer.language.grounding import Grounding
from kilolayer.language.instructions import draw_examples
from kilolayer.language.latency import time_parts
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import Episodes
from kilolayer.types import bad_field

FAILURES = 6  # failures that the report shows
TIMED = 8  # examples used to time the parts


def require_episodes(episodes: int) -> None:
    """Raises UserError for fewer than one episode of each split. Call it before long work."""
    if episodes < 1:
        raise bad_field("episodes", episodes, "it must be at least 1", 1)


def draw_evaluation_examples(task: Task, episodes: int, seed: int) -> list[Example]:
    """Draw `episodes` examples of each split, different from the training examples of this seed.

    Raises UserError for fewer than one.
    """
    require_episodes(episodes)
    # Training draws with the users' seeds, which start at zero.
    apart = 1_000_000 + seed
    return [each for split in SPLITS for each in draw_examples(task, split, episodes, apart)]


def evaluate_grounding(
    grounding: Grounding,
    policy: Run | DeployedPolicy,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> Evidence:
    """Evaluate a grounding with a policy of its task, on `episodes` episodes of each split."""
    task = grounding.task
    display.phase("evaluate")
    examples = draw_evaluation_examples(task, episodes, seed)
    context = encode_examples(task, grounding.encoder, examples, display)
    prediction = grounding.predict(context)
    evaluation = EvaluationSet(task, policy.config, examples, seed)
    other, goal = derangement(len(examples), seed), np.asarray(evaluation.goal)
    conditions = {
        "this grounding": prediction.goal,
        BOUND: goal,
        SHUFFLED: prediction.goal[other],
        CHANCE: goal[other],
    }
    play = evaluation.play(GoalPolicy(policy.agent))
    scores = score_conditions(evaluation, play, policy.agent_state, conditions, display)
    correct = np.asarray(is_success(task, prediction.goal, goal))
    scores += count_successes(evaluation, CORRECT, correct)
    act, observation = policy.policy, np.zeros(len(task.observation), np.float32)
    return Evidence(
        kind="grounding",
        task=task.name,
        config=json.loads(policy.config.to_json()),
        about={
            "acts": f"the policy of {policy.path.name}, depth {depth_of(policy)}",
            "encoder": grounding.encoder.name,
            "encoder fingerprint": grounding.encoder.fingerprint()[:16],
            "training sentences": len(grounding.sentences),
            "episodes of each split": episodes,
            "seed": seed,
            "network": asdict(grounding.size),
            **{name: value for name, value in grounding.details.items() if name != "losses"},
        },
        scores=scores,
        failures=describe_failures(
            examples, context, ~correct, prediction.goal, prediction.confidence,
            grounding.nearest_sentences, grounding.attention,
        ),
        routers=[],
        latency=time_parts(
            task, grounding.encoder, examples[:TIMED],
            {"predict goal": grounding.predict, "policy step": lambda _: act(observation, goal[0])},
        ),
        manifest=describe_run(seed),
    )  # fmt: skip


def depth_of(policy: Run | DeployedPolicy) -> int:
    """Depth of the actor network."""
    return policy.plan.actor_torso.depth if isinstance(policy, Run) else policy.spec.torso.depth


def score_conditions(
    evaluation: EvaluationSet,
    play: Callable[[Any, Any], Episodes],
    state: Any,
    conditions: Mapping[str, Any],
    display: ProgressDisplay,
) -> list[Score]:
    """Scores of one policy by split and kind, for each of the named conditions."""
    scores = []
    display.phase("episodes")
    for done, (name, condition) in enumerate(conditions.items(), 1):
        success = is_reached(evaluation.task, play(state, condition))
        scores += count_successes(evaluation, name, success)
        display.advance(done, len(conditions), success=float(success.mean()))
    return scores


def count_successes(evaluation: EvaluationSet, name: str, success: np.ndarray) -> list[Score]:
    """Count the successes `[examples]` by split and kind."""
    groups = np.array([f"{example.split} {example.kind}" for example in evaluation.examples])
    scores = []
    for group in dict.fromkeys(groups.tolist()):
        rows, (split, kind) = groups == group, group.split()
        scores.append(Score(name, split, kind, int(rows.sum()), int(success[rows].sum())))
    return scores


def is_reached(task: Task, episodes: Episodes) -> np.ndarray:
    """Which episodes reached the success radius before they ended, `[envs]`."""
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    return np.any(np.logical_and(close, episodes.alive), axis=0)


def describe_failures(
    examples: Sequence[Example],
    context: Context,
    failed: np.ndarray,
    places: np.ndarray,
    confidence: np.ndarray | None,
    nearest: Callable[[Context], list[list[tuple[str, float]]]],
    attention: Callable[[Context], np.ndarray],
) -> list[Failure]:
    """The first few failed examples, taken from each split in turn.

    failed `[examples]`. places `[examples, goal]`: the predicted goal, or where the agent ended.
    confidence `[examples]`. nearest, attention: functions of features, see
    `Grounding.nearest_sentences` and `Grounding.attention`.
    """
    rows = round_robin([example.split for example in examples], np.flatnonzero(failed))[:FAILURES]
    if not rows:
        return []
    part = jax.tree.map(lambda leaf: leaf[np.array(rows)], context)
    return [
        Failure(
            split=examples[row].split,
            kind=examples[row].kind,
            sentence=examples[row].sentence,
            markers=[(marker.colour, *marker.place) for marker in examples[row].markers],
            goal=list(map(float, examples[row].goal)),
            place=places[row].tolist(),
            confidence=None if confidence is None else float(confidence[row]),
            nearest=sentences,
            attention=attention_grid(weights),
        )
        for row, sentences, weights in zip(
            rows, nearest(part), attention(part).mean(1), strict=True
        )
    ]


def round_robin(groups: Sequence[str], rows: np.ndarray) -> list[int]:
    """Order the rows: the first of each group, then the second of each group, and so on."""
    counts: dict[str, int] = {}
    ranked = []
    for row in map(int, rows):
        counts[groups[row]] = counts.get(groups[row], 0) + 1
        ranked.append((counts[groups[row]], row))
    return [row for _, row in sorted(ranked)]


def attention_grid(attention: np.ndarray) -> list[list[float]] | None:
    """Attention `[patches]` as `[side, side]`, row by row; None if the patches form no square."""
    side = round(len(attention) ** 0.5)
    if side < 2 or side * side != len(attention):
        return None
    return attention.reshape(side, side).round(6).tolist()
