"""Several seeds as one program: functions are vmapped, arrays have a leading axis `[seeds]`.

Each seed is a `Member` with its own run directory, trackers and scores.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from kilolayer.errors import bad_field, require_at_least
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import duration
from kilolayer.runtime.tracking import CompositeTracker, Tracker, build_tracker
from kilolayer.schedule import TrainSchedule
from kilolayer.settings import MAX_SEED
from kilolayer.training.evaluate import HEADLINE
from kilolayer.types import Array

MAX_SEEDS = 4096  # together in one program
# Called with environment steps (for a dataset: updates) and scores by name.
OnEvaluation = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Seeds:
    """The seeds that train together. A single seed is not vmapped and adds no axis."""

    values: tuple[int, ...]

    @staticmethod
    def consecutive(first: int, count: int) -> "Seeds":
        """`count` seeds from `first` on; raises UserError for a count or a seed out of range."""
        require_at_least(1, seeds=count)
        if count > MAX_SEEDS:
            raise bad_field("seeds", count, f"one program trains {MAX_SEEDS} at most", MAX_SEEDS)
        last = first + count - 1
        if count > 1 and last >= MAX_SEED:
            allowed = f"with seed = {first} the last one, {last}, must lie below {MAX_SEED}"
            raise bad_field("seeds", count, allowed, MAX_SEED - first)
        return Seeds(tuple(range(first, first + count)))

    @property
    def several(self) -> bool:
        return len(self.values) > 1

    def array(self) -> Array:
        """The seeds for compiled functions, which take Python integers only below 2^31."""
        return jnp.asarray(self.values if self.several else self.values[0], jnp.uint32)

    def vmap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one seed's arrays, mapped over all seeds."""
        return jax.vmap(function) if self.several else function

    def stack(self, trees: Sequence[Any]) -> Any:
        """Stack the trees of all seeds into one tree."""
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if self.several else trees[0]

    def first(self, tree: Any) -> Any:
        """The first tree of `split`, without a copy of the others."""
        return jax.tree.map(lambda leaf: leaf[0], tree) if self.several else tree

    def split(self, tree: Any) -> list[Any]:
        """The inverse of `stack`."""
        if not self.several:
            return [tree]
        return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(len(self.values))]


@dataclass
class Member:
    """One seed of the program.

    scores: of the newest evaluation, see `episode_metrics`; empty before the first.
    headline_scores: the headline score of each evaluated round.
    """

    run: RunDirectory
    tracker: Tracker
    scores: dict[str, float] = field(default_factory=dict)
    headline_scores: dict[int, float] = field(default_factory=dict)

    @property
    def success(self) -> float:
        """Success rate of the newest evaluation, 0 before the first."""
        return self.scores.get("success", 0.0)

    def note_score(self, score: float, rounds: int) -> None:
        if not math.isnan(score):
            self.headline_scores[rounds] = score

    def best_round(self) -> int | None:
        """The round of the best evaluated checkpoint, the latest of equal ones; None without."""
        scores, rounds = self.headline_scores, checkpoint.steps(self.run.checkpoints)
        evaluated = [each for each in rounds if each in scores]
        return max(evaluated, key=lambda each: (scores[each], each), default=None)

    def log(
        self, counts: dict[str, int], event: str, metrics: dict[str, float], extra: dict[str, Any]
    ) -> None:
        """Write an event with its counts, and its metrics to the trackers."""
        self.run.append_event({"event": event, **counts, "metrics": metrics, **extra})
        self.tracker.log(counts["env_steps"] or counts["updates"], metrics)


def open_members(run: RunDirectory, resume_at: int | None, steps_per_round: int) -> list[Member]:
    """A member for each seed of the run.

    resume_at: the round of the checkpoint that a resumed run continues from, None for a new run.
    Events up to that round stay; all later points are repeated.
    """
    # Without a checkpoint, all points are repeated.
    purge_from = resume_at * steps_per_round + 1 if resume_at else resume_at
    members = [Member(each, _tracker(each, purge_from)) for each in run.members]
    for member in members if resume_at else ():
        for event in member.run.read_events():
            score = event.get("metrics", {}).get(f"evaluation/{HEADLINE}")
            if score is not None and event["round"] <= resume_at:
                member.note_score(score, event["round"])
    return members


def _tracker(run: RunDirectory, purge_from: int | None) -> Tracker:
    if not run.writes:
        return CompositeTracker([])
    config = run.config
    return build_tracker(run.path, config.tracking, config.flat(), purge_from)


def display_figures(
    schedule: TrainSchedule, members: Sequence[Member], rounds: int, round_seconds: float | None
) -> dict[str, float | str]:
    """Figures of the live display by name: speed, mean score, and when the next evaluation begins.

    rounds: completed ones. round_seconds: of the newest training round, None before the first.
    """
    figures: dict[str, float | str] = {}
    if round_seconds:
        if schedule.steps_per_unroll:
            figures["steps/s"] = len(members) * schedule.steps_per_unroll / round_seconds
        figures["updates/s"] = len(members) * schedule.updates_per_unroll / round_seconds
    figures["success"] = sum(member.success for member in members) / len(members)
    until = [schedule.prefill_unrolls + count - rounds for count in schedule.evaluate_after]
    remaining = min((count for count in until if count >= 0), default=None)
    if round_seconds and remaining is not None:
        figures["evaluation"] = f"in {duration(remaining * round_seconds)}" if remaining else "now"
    return figures
