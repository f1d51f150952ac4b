"""What the card of a zoo policy says beside its network: what it scores and how it was trained."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilolayer.analysis.statistics import Estimate, mean_interval, share_interval
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import DIRECTORY, DeployedPolicy
from kilolayer.deploy.score import Scorer
from kilolayer.runtime.zoo import zoo_directories
from kilolayer.training.evaluate import episode_scores
from kilolayer.types import UserError

# Where the facts lie in the `details` of a policy's card, and their version.
SECTION, VERSION = "zoo", 1
ESTIMATES = ("success", "time_at_goal", "final_distance")


@dataclass(frozen=True)
class Score:
    """What a policy scores in episodes of the task's evaluation goals, each with a 95 % interval.

    success: share of the episodes that reach their goal, with Wilson's interval. time_at_goal:
    control steps; final_distance: in the goal's unit; both with Student's interval of the mean.
    """

    episodes: int
    seed: int
    success: Estimate
    time_at_goal: Estimate
    final_distance: Estimate


@dataclass(frozen=True)
class Training:
    """How a policy was trained.

    commands: one after another, without directories. seed: of the last one. env_steps, updates:
    over all commands, None where not known. versions: of Python and packages.
    """

    commands: tuple[str, ...]
    seed: int
    env_steps: int | None
    updates: int | None
    minutes: float
    machine: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Exhibit:
    """A policy of the zoo as its card describes it; bytes: of both of its files."""

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
    """Play episodes and score them; `seed` draws starts and goals."""
    scorer = Scorer(policy.task, policy.config, episodes, seed)
    found = episode_scores(policy.task, scorer.play(policy.agent, policy.agent_state))
    return Score(
        episodes,
        seed,
        share_interval(int(found["success"].sum()), episodes),
        mean_interval(found["time_at_goal"]),
        mean_interval(found["final_distance"]),
    )


def section(score: Score, training: Training, licence: str) -> dict[str, Any]:
    """What these are in the `details` of a card, as JSON values."""
    score_values = dataclasses.asdict(score)
    for name in ESTIMATES:
        del score_values[name]["seeds"]  # which are the episodes
    return {
        SECTION: {
            "version": VERSION,
            "score": score_values,
            "training": {**dataclasses.asdict(training), "commands": list(training.commands)},
            "licence": licence,
        }
    }


def exhibits() -> list[Exhibit]:
    """All policies of the zoo, by name; raises UserError if the files of one are damaged."""
    return [open_exhibit(path) for path in zoo_directories().values()]


def open_exhibit(path: Path) -> Exhibit:
    """The card of one policy; raises UserError if it lacks what a card of the zoo says."""
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
        return Exhibit(
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
        raise DIRECTORY.broken(path, error) from error


def size_of(path: Path) -> int:
    """Bytes of a policy directory."""
    names = (DIRECTORY.card_name, DIRECTORY.tensors_name)
    return sum((path / name).stat().st_size for name in names)


def brief(estimate: Estimate, digits: int) -> str:
    """`value (low to high)`."""
    value, low, high = (
        f"{number:,.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
