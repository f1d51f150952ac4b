"""The seeds of one program: the run directory, trackers and scores of each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.tracking import CompositeTracker, Tracker, build_tracker
from kilolayer.training.evaluate import HEADLINE

# Called with environment steps (for a dataset: updates) and scores by name.
OnEvaluation = Callable[[int, Mapping[str, float]], None]


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
        """The round of the checkpoint with the best evaluation, the latest of several equal ones;
        None without a checkpoint."""
        scores, rounds = self.headline_scores, checkpoint.steps(self.run.checkpoints)
        evaluated = [each for each in rounds if each in scores]
        return max(evaluated, key=lambda each: (scores[each], each), default=None)

    def log(
        self,
        counts: dict[str, int],
        event: str,
        metrics: dict[str, float],
        extra: dict[str, Any],
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
