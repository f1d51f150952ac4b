"""The figures in the live display of a training run."""

from collections.abc import Sequence

from kilolayer.plan import TrainPlan
from kilolayer.runtime.progress import duration
from kilolayer.training.members import Member


def display_figures(
    plan: TrainPlan, members: Sequence[Member], rounds: int, round_seconds: float | None
) -> dict[str, float | str]:
    """Figures by name: speed, the mean score of the seeds, and when the next evaluation begins.

    rounds: number of completed rounds. round_seconds: of the newest training round, None before the
    first.
    """
    figures: dict[str, float | str] = {}
    if round_seconds:
        if plan.steps_per_unroll:
            figures["steps/s"] = len(members) * plan.steps_per_unroll / round_seconds
        figures["updates/s"] = len(members) * plan.updates_per_unroll / round_seconds
    figures["success"] = sum(member.success for member in members) / len(members)
    until = [plan.prefill_unrolls + count - rounds for count in plan.evaluate_after]
    remaining = min((count for count in until if count >= 0), default=None)
    if round_seconds and remaining is not None:
        figures["evaluation"] = f"in {duration(remaining * round_seconds)}" if remaining else "now"
    return figures
