"""The zoo's section of a policy card: the policy's score and how it was trained."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilolayer.analysis.statistics import Estimate, mean_interval, proportion_interval
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import DIRECTORY, DeployedPolicy
from kilolayer.deploy.score import Scorer
from kilolayer.errors import UserError
from kilolayer.runtime.zoo import zoo_directories
from kilolayer.training.evaluate import episode_scores

# Key of the zoo's section in the `details` of a policy card, and the version of its format.
SECTION, VERSION = "zoo", 1
ESTIMATES = ("success", "time_at_goal", "final_distance")


@dataclass(frozen=True)
class Score:
    """A policy's scores on the task's evaluation goals, each with a 95 % interval.

    success: share of the episodes that reach their goal, with Wilson's interval. time_at_goal:
    control steps. final_distance: in the goal's unit. The last two are means with Student's
    interval.
    """

    episodes: int
    seed: int
    success: Estimate
    time_at_goal: Estimate
    final_distance: Estimate


@dataclass(frozen=True)
class Training:
    """How a policy was trained.

    commands: run one after another, without directories. seed: that of the last command. env_steps,
    updates: sums over all commands, or None if unknown. versions: of Python and packages.
    """

    commands: tuple[str, ...]
    seed: int
    env_steps: int | None
    updates: int | None
    minutes: float
    machine: str
    versions: dict[str, str]


@dataclass(frozen=True)
class ZooEntry:
    """A policy of the zoo, as its card describes it. bytes: total size of its two files."""

    name: str
    path: Path
    task: str
    depth: int
    width: int
    bytes: int
    score: Score
    training: Training
    licence: str


def score_policy(policy: DeployedPolicy, episodes: int, seed: int) -> Score:
    """Play episodes and score them. `seed` draws starts and goals."""
    scorer = Scorer(policy.task, policy.config, episodes, seed)
    found = episode_scores(policy.task, scorer.play(policy.agent, policy.agent_state))
    return Score(
        episodes,
        seed,
        proportion_interval(int(found["success"].sum()), episodes),
        mean_interval(found["time_at_goal"]),
        mean_interval(found["final_distance"]),
    )


def section(score: Score, training: Training, licence: str) -> dict[str, Any]:
    """The zoo's section for the `details` of a card, as JSON values."""
    score_values = dataclasses.asdict(score)
    for name in ESTIMATES:
        del score_values[name]["seeds"]  # equal to `episodes`
    return {
        SECTION: {
            "version": VERSION,
            "score": score_values,
            "training": {**dataclasses.asdict(training), "commands": list(training.commands)},
            "licence": licence,
        }
    }


def zoo_entries() -> list[ZooEntry]:
    """All policies of the zoo, sorted by name; raises UserError if a policy's files are damaged."""
    return [open_zoo_entry(path) for path in zoo_directories().values()]


def open_zoo_entry(path: Path) -> ZooEntry:
    """Read the card of one policy; raises UserError if it lacks a field of the zoo's section."""
    card, source = DIRECTORY.card(path), str(path / DIRECTORY.card_name)
    try:
        values = card["details"][SECTION]
        if values["version"] != VERSION:
            raise UserError(
                f"the zoo's part of the card in {path} has version {values['version']}, and this "
                f"package reads {VERSION}: make it anew."
            )
        score, training = dict(values["score"]), dict(values["training"])
        for name in ESTIMATES:
            score[name] = Estimate(**score[name], seeds=score["episodes"])
        training["commands"] = tuple(training["commands"])
        torso = card["actor"]["torso"]
        return ZooEntry(
            name=path.name,
            path=path,
            task=RunConfig.from_json(json.dumps(card["config"]), source).task.name,
            depth=torso["depth"],
            width=torso["width"],
            bytes=size_of(path),
            score=Score(**score),
            training=Training(**training),
            licence=values["licence"],
        )
    except (KeyError, TypeError) as error:
        raise DIRECTORY.damaged(path, error) from error


def size_of(path: Path) -> int:
    """Size of the two files in a policy directory, in bytes."""
    names = (DIRECTORY.card_name, DIRECTORY.tensors_name)
    return sum((path / name).stat().st_size for name in names)


def interval_text(estimate: Estimate, digits: int) -> str:
    """`value (low to high)`."""
    value, low, high = (
        f"{number:,.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
