"""Evaluation results of a grounding or an action module, in evidence.json beside its arrays.

The file is written once, after training. Reports read it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilolayer.analysis.statistics import Estimate, proportion_interval
from kilolayer.deploy.latency import Timing
from kilolayer.errors import UserError
from kilolayer.runtime.files import write_atomically

FILE = "evidence.json"
BOUND = "true goal (upper bound)"
CHANCE = "goal of another example (chance)"
SHUFFLED = "instruction of another example"
CORRECT = "predicted goal is correct"
# The names of the same conditions in files of earlier versions.
OLD_NAMES = {
    "told the true goal": BOUND,
    "told another goal, by chance": CHANCE,
    "hearing another instruction": SHUFFLED,
    "goal understood": CORRECT,
}
# Below this share of the bound's success on the split `seen`, training was too short.
SHORT_TRAINING = 0.6


@dataclass(frozen=True)
class Score:
    """Number of successful episodes with instructions of one split and kind.

    who: the condition, such as `this grounding` or BOUND.
    """

    who: str
    split: str
    kind: str
    episodes: int
    successes: int

    @property
    def share(self) -> Estimate:
        """Success rate with a 95 % interval over episodes; raises UserError without episodes."""
        return proportion_interval(self.successes, self.episodes)


@dataclass(frozen=True)
class Failure:
    """An instruction that was not followed.

    markers: colour, x and y of each. goal: the intended goal. place: the goal that a
    grounding predicted, or where the agent of a module ended. nearest: nearest training
    instructions with their cosine similarity. attention `[rows, columns]`: of the sentence over the
    patches of the picture, mean over heads, the upper row first; None if the encoder has no
    patches.
    """

    split: str
    kind: str
    sentence: str
    markers: list[tuple[str, float, float]]
    goal: list[float]
    place: list[float]
    confidence: float | None
    nearest: list[tuple[str, float]]
    attention: list[list[float]] | None


@dataclass(frozen=True)
class RouterUse:
    """Mean gates of every expert in every layer, `[layers, experts]`, over one group of steps.

    by: the criterion of the groups, such as `phase of the movement`. of: the group.
    """

    by: str
    of: str
    use: list[list[float]]


@dataclass(frozen=True)
class Evidence:
    """All results of one evaluation.

    kind: `grounding` or `module`. config: of the run, for its task. about: values by name, for the
    report's first lines and its table of the config. manifest: see `describe_run`.
    """

    kind: str
    task: str
    config: dict[str, Any]
    about: dict[str, Any]
    scores: list[Score]
    failures: list[Failure]
    routers: list[RouterUse]
    latency: dict[str, Timing]
    manifest: dict[str, Any]

    @property
    def actors(self) -> list[str]:
        """Names of all scored conditions, in order; the first is the evaluated network."""
        return list(dict.fromkeys(score.who for score in self.scores))

    def score(self, who: str, split: str, kind: str | None = None) -> Score:
        """The score on one split, over all kinds unless one is given; it may have 0 episodes."""
        rows = [
            score
            for score in self.scores
            if (score.who, score.split) == (who, split) and kind in (None, score.kind)
        ]
        episodes, successes = sum(row.episodes for row in rows), sum(row.successes for row in rows)
        return Score(who, split, kind or "all", episodes, successes)

    @property
    def advice(self) -> str | None:
        """A warning if the training was too short to compare splits, else None."""
        own, bound = self.score(self.actors[0], "seen"), self.score(BOUND, "seen")
        if own.share.value >= SHORT_TRAINING * bound.share.value:
            return None
        return (
            f"Only {own.share.value:.0%} of instructions like those trained on succeed, against "
            f"{bound.share.value:.0%} with the true goal: train longer (--updates, --examples, "
            "--encoder-updates, for a module --steps) before comparing splits."
        )

    def write(self, directory: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        write_atomically(directory / FILE, text + "\n")

    @staticmethod
    def read(directory: Path) -> "Evidence":
        """Read evidence.json; raises UserError if it is missing or damaged."""
        try:
            values = json.loads((directory / FILE).read_text(encoding="utf-8"))
            for score in values["scores"]:
                score["who"] = OLD_NAMES.get(score["who"], score["who"])
            values["scores"] = [Score(**each) for each in values["scores"]]
            values["failures"] = [Failure(**each) for each in values["failures"]]
            values["routers"] = [RouterUse(**each) for each in values["routers"]]
            values["latency"] = {name: Timing(**each) for name, each in values["latency"].items()}
            return Evidence(**values)
        except FileNotFoundError as error:
            raise UserError(
                f"{directory} was not evaluated, so there is nothing to report: train it with "
                "`kilolayer ground` or `kilolayer train-vla`, which evaluate it."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{directory / FILE} cannot be read: {error}.") from error
