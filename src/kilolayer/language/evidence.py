"""What is known of a grounding or a module once it was tried out, beside its arrays: evidence.json.

Written once, where it was trained; reports read it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilolayer.analysis.statistics import Estimate, share_interval
from kilolayer.deploy.latency import Timing
from kilolayer.runtime.files import write_atomically
from kilolayer.types import UserError

FILE = "evidence.json"
BOUND = "told the true goal"
"""Who is scored as the upper bound."""
FAR_BELOW = 0.6  # of the bound's success, where all was trained on


@dataclass(frozen=True)
class Score:
    """Successful episodes of those played under instructions of one split and kind.

    who: what acted, such as `this grounding` or `told the true goal`.
    """

    who: str
    split: str
    kind: str
    episodes: int
    successes: int

    @property
    def share(self) -> Estimate:
        """With its 95 % interval, of the episodes alone; raises UserError for none."""
        return share_interval(self.successes, self.episodes)


@dataclass(frozen=True)
class Failure:
    """An instruction that was not followed.

    markers: colour, x and y of each. goal: what it meant; place: what it was taken for by a
    grounding, or where the agent of a module ended. nearest: training instructions and their
    cosine similarity.
    attention `[rows, columns]`: of the sentence over the patches of the picture, mean of the heads,
    the upper row first; None where the encoder tells no patches.
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
    """Mean gates of every expert in every layer, `[layers, experts]`.

    by: what the steps are grouped by, such as `phase of the movement`; of: which of these.
    """

    by: str
    of: str
    use: list[list[float]]


@dataclass(frozen=True)
class Evidence:
    """kind: `grounding` or `module`. config: of the run, for its task. about: what stands in the
    report's first lines and its table of the config, by name. manifest: see `describe_run`."""

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
        """Who was scored, in order; the first is what this is about."""
        return list(dict.fromkeys(score.who for score in self.scores))

    def score(self, who: str, split: str, kind: str | None = None) -> Score:
        """Episodes of one split, of all kinds unless one is named; there may be none."""
        rows = [
            score
            for score in self.scores
            if (score.who, score.split) == (who, split) and kind in (None, score.kind)
        ]
        episodes, successes = (
            sum(getattr(row, field) for row in rows) for field in ("episodes", "successes")
        )
        return Score(who, split, kind or "all", episodes, successes)

    @property
    def advice(self) -> str | None:
        """A sentence on a training that was too short to say anything of splits, if it was."""
        own, bound = self.score(self.actors[0], "seen"), self.score(BOUND, "seen")
        if own.share.value >= FAR_BELOW * bound.share.value:
            return None
        return (
            f"Only {own.share.value:.0%} of instructions like those trained on succeed, against "
            f"{bound.share.value:.0%} when {BOUND}: train longer (--updates, --examples, "
            "--encoder-updates, for a module --steps) before comparing splits."
        )

    def write(self, directory: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=1)
        write_atomically(directory / FILE, text + "\n")

    @staticmethod
    def read(directory: Path) -> "Evidence":
        """Raises UserError if there is none or it is damaged."""
        try:
            values = json.loads((directory / FILE).read_text(encoding="utf-8"))
            return Evidence(
                **values
                | {
                    "scores": [Score(**each) for each in values["scores"]],
                    "failures": [Failure(**each) for each in values["failures"]],
                    "routers": [RouterUse(**each) for each in values["routers"]],
                    "latency": {n: Timing(**each) for n, each in values["latency"].items()},
                }
            )
        except FileNotFoundError as error:
            raise UserError(
                f"{directory} was never tried out, so there is nothing to report: train it with "
                "`kilolayer ground` or `kilolayer train-vla`, which do."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{directory / FILE} cannot be read: {error}.") from error
