"""Analyse the published learning curves of ten tasks with this package.

`KILOLAYER_REFERENCE=FOLDER python -m results.published_curves.analyse` prints the tables of the
README. The folder holds `curves_depth.json` (see `kilolayer.analysis.published`) and
`published.json` (hours by task and depth).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from kilolayer.analysis.claims import Claim, assess_claims, evidence_strength, holm_correction
from kilolayer.analysis.cost_curves import CostCurve, scores_at_budget
from kilolayer.analysis.depth import (
    DepthScores,
    critical_depth,
    depth_contrast,
    monotonicity,
    saturation_depth,
)
from kilolayer.analysis.published import EVALUATION_INTERVAL, read_published
from kilolayer.analysis.statistics import Estimate, proportion_interval
from kilolayer.analysis.threshold import WINDOW, steps_to_share, trailing_mean

DEFAULT = Path(__file__).parents[3] / "shared" / "reference"
FOLDER = Path(os.environ.get("KILOLAYER_REFERENCE", DEFAULT))
SEEDS = 5  # of the paper's main figure
SHARES = (0.5, 0.9)


@dataclass(frozen=True)
class Task:
    """A task's curves against hours, and the published mean of its deepest network at each step."""

    curves: list[CostCurve]
    steps: np.ndarray
    deepest: np.ndarray

    @property
    def final(self) -> DepthScores:
        return scores_at_budget(self.curves, np.inf)


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def published_tasks() -> dict[str, Task]:
    """Hours are taken as proportional to steps, since only total hours are published.

    The trailing mean of the standard errors is an upper bound of the standard error of the trailing
    mean: they are equal if the differences between seeds are constant over evaluations.
    """
    hours = read("published.json")["wall_clock_hours_by_depth"]
    tasks = {}
    for name, by_depth in read_published(FOLDER / "curves_depth.json").items():
        deepest = by_depth[max(by_depth)]
        steps = deepest.steps / EVALUATION_INTERVAL
        curves = []
        for depth, curve in by_depth.items():
            cost = hours[name][str(depth)] * steps / len(steps)
            mean, error = trailing_mean(curve.mean), trailing_mean(curve.error)
            curves.append(CostCurve(depth, cost[WINDOW - 1 :], mean, error, SEEDS))
        tasks[name] = Task(curves, steps, deepest.mean)
    return tasks


def million_steps(task: Task) -> list[int]:
    """Million environment steps to 50 and 90 percent of the deepest network's final score."""
    return [int(steps_to_share(task.steps, task.deepest, share)) for share in SHARES]


def equal_hours(tasks: dict[str, Task]) -> dict[str, Estimate]:
    """Lead of depth 32 over depth 64 on each task after equal hours: those of the run at depth
    32."""
    leads = {}
    for name, task in tasks.items():
        pair = [curve for curve in task.curves if curve.depth in (32, 64)]
        scores = scores_at_budget(pair, min(curve.cost[-1] for curve in pair))
        leads[name] = scores.cells.estimate(depth_contrast(2, 0, 1))
    return leads


def equal_hours_claim(leads: dict[str, Estimate]) -> Claim:
    """Claim that depth 32 is ahead on more tasks than depth 64, by a sign test over the tasks."""
    wins = sum(estimate.value > 0 for estimate in leads.values())
    clear = sum(estimate.low > 0 for estimate in leads.values())
    statement = (
        f"At equal wall-clock time depth 32 is ahead of depth 64 on {wins} of {len(leads)} tasks, "
        f"on {clear} of them with a 95 % interval above 0; the share of tasks is"
    )
    p = float(stats.binomtest(wins, len(leads)).pvalue)
    return Claim(statement, proportion_interval(wins, len(leads)), p, 0, None)


def critical_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | score at 4, 8, 16, 32, 64 | largest step | its share, 95 % | p | evidence | "
        "corrected for ten tasks |",
        "|---|---|---|---|---|---|---|",
    ]
    critical = [critical_depth(task.final) for task in tasks.values()]
    corrected = holm_correction([step.p_jump for step in critical])
    for (name, task), step, p in zip(tasks.items(), critical, corrected, strict=True):
        share = step.share
        rows.append(
            f"| {name} | {', '.join(f'{score:.3g}' for score in task.final.mean)} | "
            f"{step.shallower} to {step.depth} | {share.value:.2f} ({share.low:.2f} to "
            f"{share.high:.2f}) | {step.p_jump:.2g} | {evidence_strength(step.p_jump)} | {p:.2g} |"
        )
    return rows


def other_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | 90 % of the best from depth | most certain decrease | p | evidence | 50 %, 90 % "
        "at million steps, depth 64 |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        depth, decrease = saturation_depth(task.final).depth, monotonicity(task.final).decrease
        rows.append(
            f"| {name} | {depth.value} ({depth.low} to {depth.high}) | {decrease.shallower} to "
            f"{decrease.deeper} | {decrease.p:.2g} | {evidence_strength(decrease.p)} | "
            f"{', '.join(map(str, million_steps(task)))} |"
        )
    return rows


def comparison_rows(tasks: dict[str, Task]) -> list[str]:
    rows = ["| task | lead of depth 32 over 64 at equal hours (95 %) |", "|---|---|"]
    for name, lead in equal_hours(tasks).items():
        rows.append(f"| {name} | {lead.value:.0f} ({lead.low:.0f} to {lead.high:.0f}) |")
    return rows


def tables() -> str:
    tasks = published_tasks()
    (verdict,) = assess_claims([equal_hours_claim(equal_hours(tasks))])
    parts = (critical_rows(tasks), other_rows(tasks), comparison_rows(tasks))
    # The ten of the estimate are tasks.
    sentence = f"{verdict}".replace(" seeds)", " tasks)")
    return "\n\n".join(["\n".join(rows) for rows in parts] + [sentence])


if __name__ == "__main__":
    print(tables())
