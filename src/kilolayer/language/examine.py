"""Evaluation of a grounding: success by split, failures and latency."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.base import SPLITS, Context, Example
from kilolayer.language.contexts import contexts
from kilolayer.language.evidence import BOUND, Evidence, Failure, Score
from kilolayer.language.grounding import Grounding
from kilolayer.language.instructions import draw_examples
from kilolayer.language.latency import time_parts
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.score import Exam, Told, others
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import Episodes
from kilolayer.types import bad_field

CHANCE = "told another goal, by chance"
SHUFFLED, UNDERSTOOD = "hearing another instruction", "goal understood"
FAILURES = 6  # failures that the report shows
TIMED = 8  # examples used to time the parts
NEAREST = 3


def draw_exam(task: Task, episodes: int, seed: int) -> list[Example]:
    """Draw `episodes` examples of each split, different from the training examples of this seed.

    Raises UserError for fewer than one.
    """
    if episodes < 1:
        raise bad_field("episodes", episodes, "it must be at least 1", 1)
    # Training draws with the users' seeds, which start at zero.
    apart = 1_000_000 + seed
    return [each for split in SPLITS for each in draw_examples(task, split, episodes, apart)]


def examine_grounding(
    grounding: Grounding,
    policy: Run | DeployedPolicy,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> Evidence:
    """Evaluate a grounding with a policy of its task, on `episodes` episodes of each split."""
    task = grounding.task
    display.phase("try out")
    examples = draw_exam(task, episodes, seed)
    pictures = draw_pictures(task, [example.markers for example in examples])
    context = contexts(
        grounding.encoder, [example.sentence for example in examples], pictures, display
    )
    found = grounding.ground(context)
    exam, other = Exam(task, policy.config, examples, seed), others(len(examples), seed)
    meant = np.asarray(exam.goal)
    scores = played(
        exam,
        exam.play(Told(policy.agent)),
        policy.agent_state,
        {
            "this grounding": found.goal,
            BOUND: meant,
            SHUFFLED: found.goal[other],
            CHANCE: meant[other],
        },
        display,
    )
    wrong = ~np.asarray(is_success(task, found.goal, meant))
    scores += counted(exam, UNDERSTOOD, ~wrong)
    answers = Answers(found.goal, found.confidence, grounding.nearest, grounding.attention)
    step, observation = policy.policy, np.zeros(len(task.observation), np.float32)
    acting = {
        "fusion and goal": grounding.ground,
        "policy, a step": lambda _: step(observation, meant[0]),
    }
    return Evidence(
        kind="grounding",
        task=task.name,
        config=json.loads(policy.config.to_json()),
        about=_about(grounding, policy, episodes, seed),
        scores=scores,
        failures=failures(answers, examples, context, wrong),
        routers=[],
        latency=time_parts(task, grounding.encoder, examples[:TIMED], acting),
        manifest=describe_run(seed),
    )


def depth_of(policy: Run | DeployedPolicy) -> int:
    """Depth of the actor network."""
    return policy.plan.actor_torso.depth if isinstance(policy, Run) else policy.spec.torso.depth


def played(
    exam: Exam,
    play: Callable[[Any, Any], Episodes],
    state: Any,
    told: Mapping[str, Any],
    display: ProgressDisplay,
) -> list[Score]:
    """Scores of one follower by split and kind.

    told: for each name to report, the input that the follower gets.
    """
    scores = []
    display.phase("episodes")
    for done, (who, what) in enumerate(told.items(), 1):
        reached = succeeded(exam.task, play(state, what))
        scores += counted(exam, who, reached)
        display.advance(done, len(told), success=float(reached.mean()))
    return scores


def counted(exam: Exam, who: str, right: np.ndarray) -> list[Score]:
    """Count the successes in `right [examples]` by split and kind."""
    groups = np.array([f"{example.split} {example.kind}" for example in exam.examples])
    found = []
    for group in dict.fromkeys(groups.tolist()):
        rows, (split, kind) = groups == group, group.split()
        found.append(Score(who, split, kind, int(rows.sum()), int(right[rows].sum())))
    return found


def succeeded(task: Task, episodes: Episodes) -> np.ndarray:
    """Which episodes reached the success radius before they ended, `[envs]`."""
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    return np.any(np.logical_and(close, episodes.alive), axis=0)


@dataclass(frozen=True)
class Answers:
    """The answers to all examples.

    places `[examples, goal]`: the predicted goal, or where the agent ended. confidence
    `[examples]`: NaN if there is none. nearest, attention: functions of features, see `Grounding`.
    """

    places: np.ndarray
    confidence: np.ndarray
    nearest: Callable[[Context], list[list[tuple[str, float]]]]
    attention: Callable[[Context], np.ndarray]


def failures(
    answers: Answers, examples: Sequence[Example], context: Context, wrong: np.ndarray
) -> list[Failure]:
    """The first few failed examples, taken from each split in turn."""
    rows = in_turn([example.split for example in examples], np.flatnonzero(wrong))[:FAILURES]
    if not rows:
        return []
    part = jax.tree.map(lambda leaf: leaf[np.array(rows)], context)
    nearest, attention = answers.nearest(part), answers.attention(part).mean(1)
    return [
        Failure(
            split=examples[row].split,
            kind=examples[row].kind,
            sentence=examples[row].sentence,
            markers=[(marker.colour, *marker.place) for marker in examples[row].markers],
            goal=list(map(float, examples[row].goal)),
            place=answers.places[row].tolist(),
            confidence=(
                None if np.isnan(answers.confidence[row]) else float(answers.confidence[row])
            ),
            nearest=nearest[index],
            attention=square(attention[index]),
        )
        for index, row in enumerate(rows)
    ]


def in_turn(groups: Sequence[str], rows: np.ndarray) -> list[int]:
    """Order the rows: the first of each group, then the second of each group, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for row in map(int, rows):
        seen[groups[row]] = seen.get(groups[row], 0) + 1
        ranked.append((seen[groups[row]], row))
    return [row for _, row in sorted(ranked)]


def square(attention: np.ndarray) -> list[list[float]] | None:
    """Attention `[patches]` as `[side, side]`, row by row; None if the patches form no square."""
    side = round(len(attention) ** 0.5)
    if side < 2 or side * side != len(attention):
        return None
    return attention.reshape(side, side).round(6).tolist()


def _about(
    grounding: Grounding, policy: Run | DeployedPolicy, episodes: int, seed: int
) -> dict[str, Any]:
    details = {name: value for name, value in grounding.details.items() if name != "losses"}
    return {
        "acts": f"the policy of {policy.path.name}, depth {depth_of(policy)}",
        "encoder": grounding.encoder.name,
        "encoder fingerprint": grounding.encoder.fingerprint()[:16],
        "training sentences": len(grounding.sentences),
        "episodes of each split": episodes,
        "seed": seed,
        "network": asdict(grounding.size),
        **details,
    }
