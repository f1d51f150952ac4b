"""The analysis of the package on the published learning curves of ten tasks.

`KILOLAYER_REFERENCE=FOLDER python -m results.published_curves.analyse` prints the tables of the
README. The folder holds `curves_depth.json` (means and standard errors by task and depth, one
evaluation per million environment steps; see `kilolayer.analysis.published`) and `published.json` (hours by task and depth).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilolayer.analysis.cost import Comparison, CostCurve, at_budget, compare
from kilolayer.analysis.depth import critical_depth, monotonicity, saturation_depth
from kilolayer.analysis.depth_scores import DepthScores
from kilolayer.analysis.published import STEPS_BETWEEN, read_published
from kilolayer.analysis.threshold import steps_to_share
from kilolayer.analysis.verdict import comparison_verdict, critical_verdict, strength

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
        return at_budget(self.curves, np.inf)


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def published_tasks() -> dict[str, Task]:
    """Hours grow in proportion to steps, as nothing finer is published."""
    hours = read("published.json")["wall_clock_hours_by_depth"]
    tasks = {}
    for name, by_depth in read_published(FOLDER / "curves_depth.json").items():
        deepest = by_depth[max(by_depth)]
        steps = deepest.steps / STEPS_BETWEEN
        curves = []
        for depth, curve in by_depth.items():
            cost = hours[name][str(depth)] * steps / len(steps)
            curves.append(CostCurve.from_means(depth, cost, curve.mean, curve.error, SEEDS))
        tasks[name] = Task(curves, steps, deepest.mean)
    return tasks


def million_steps(task: Task) -> list[int]:
    """Million environment steps to 50 and 90 percent of the deepest network's final score."""
    return [int(steps_to_share(task.steps, task.deepest, share)) for share in SHARES]


def equal_hours(tasks: dict[str, Task]) -> Comparison:
    return compare({name: task.curves for name, task in tasks.items()}, 32, 64)


def critical_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | score at 4, 8, 16, 32, 64 | largest step | its share, 95 % | p | evidence |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        found = critical_depth(task.final)
        share = found.share
        rows.append(
            f"| {name} | {', '.join(f'{score:.3g}' for score in task.final.mean)} | "
            f"{found.shallower} to {found.depth} | {share.value:.2f} ({share.low:.2f} to "
            f"{share.high:.2f}) | {found.p_jump:.2g} | {critical_verdict(found).strength} |"
        )
    return rows


def other_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | 90 % of the best from depth | clearest fall | p | evidence | 50 %, 90 % at "
        "million steps, depth 64 |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        saturation, trend = saturation_depth(task.final), monotonicity(task.final)
        rows.append(
            f"| {name} | {saturation.depth} ({saturation.low} to {saturation.high}) | "
            f"{trend.shallower} to {trend.deeper} | {trend.p_fall:.2g} | "
            f"{strength(trend.p_fall)} | {', '.join(map(str, million_steps(task)))} |"
        )
    return rows


def comparison_rows(tasks: dict[str, Task]) -> list[str]:
    rows = ["| task | depth 32 ahead of 64 at equal hours by (95 %) |", "|---|---|"]
    for name, ahead in equal_hours(tasks).ahead.items():
        rows.append(f"| {name} | {ahead.value:.0f} ({ahead.low:.0f} to {ahead.high:.0f}) |")
    return rows


def tables() -> str:
    tasks = published_tasks()
    verdict = comparison_verdict(equal_hours(tasks), "wall-clock")
    parts = (critical_rows(tasks), other_rows(tasks), comparison_rows(tasks))
    return "\n\n".join(["\n".join(rows) for rows in parts] + [f"{verdict}"])


if __name__ == "__main__":
    print(tables())
