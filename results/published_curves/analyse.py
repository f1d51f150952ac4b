"""The analysis of the package on the published learning curves of ten tasks.

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

from kilolayer.analysis.claims import Claim, holm, judged, strength
from kilolayer.analysis.cost import CostCurve, at_budget
from kilolayer.analysis.depth import critical_depth, monotonicity, saturation_depth
from kilolayer.analysis.depth_scores import DepthScores, difference
from kilolayer.analysis.published import STEPS_BETWEEN, read_published
from kilolayer.analysis.statistics import Estimate, share_interval
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
        return at_budget(self.curves, np.inf)


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def published_tasks() -> dict[str, Task]:
    """Hours grow in proportion to steps, as nothing finer is published.

    The trailing mean of the standard errors is an upper bound of the error of the trailing mean.
    The two are equal where a seed that is good at one evaluation is as good at the next.
    """
    hours = read("published.json")["wall_clock_hours_by_depth"]
    tasks = {}
    for name, by_depth in read_published(FOLDER / "curves_depth.json").items():
        deepest = by_depth[max(by_depth)]
        steps = deepest.steps / STEPS_BETWEEN
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
    """How much depth 32 is ahead of depth 64 on each task after as many hours as its run took."""
    ahead = {}
    for name, task in tasks.items():
        pair = [curve for curve in task.curves if curve.depth in (32, 64)]
        scores = at_budget(pair, min(curve.cost[-1] for curve in pair))
        ahead[name] = scores.estimate(difference(2, 0, 1))
    return ahead


def equal_hours_claim(ahead: dict[str, Estimate]) -> Claim:
    """By a sign test over the tasks."""
    wins = sum(estimate.value > 0 for estimate in ahead.values())
    clear = sum(estimate.low > 0 for estimate in ahead.values())
    says = (
        f"At equal wall-clock depth 32 is ahead of depth 64 on {wins} of {len(ahead)} tasks, "
        f"{clear} of them beyond the 95 % interval; as a share"
    )
    p = float(stats.binomtest(wins, len(ahead)).pvalue)
    return Claim(says, share_interval(wins, len(ahead)), p, 0, None)


def critical_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | score at 4, 8, 16, 32, 64 | largest step | its share, 95 % | p | evidence | "
        "corrected for ten tasks |",
        "|---|---|---|---|---|---|---|",
    ]
    found = [critical_depth(task.final) for task in tasks.values()]
    corrected = holm([each.p_jump for each in found])
    for (name, task), each, p in zip(tasks.items(), found, corrected, strict=True):
        share = each.share
        rows.append(
            f"| {name} | {', '.join(f'{score:.3g}' for score in task.final.mean)} | "
            f"{each.shallower} to {each.depth} | {share.value:.2f} ({share.low:.2f} to "
            f"{share.high:.2f}) | {each.p_jump:.2g} | {strength(each.p_jump)} | {p:.2g} |"
        )
    return rows


def other_rows(tasks: dict[str, Task]) -> list[str]:
    rows = [
        "| task | 90 % of the best from depth | clearest fall | p | evidence | 50 %, 90 % at "
        "million steps, depth 64 |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in tasks.items():
        depth, fall = saturation_depth(task.final).depth, monotonicity(task.final).fall
        rows.append(
            f"| {name} | {depth.value} ({depth.low} to {depth.high}) | {fall.shallower} to "
            f"{fall.deeper} | {fall.p:.2g} | {strength(fall.p)} | "
            f"{', '.join(map(str, million_steps(task)))} |"
        )
    return rows


def comparison_rows(tasks: dict[str, Task]) -> list[str]:
    rows = ["| task | depth 32 ahead of 64 at equal hours by (95 %) |", "|---|---|"]
    for name, ahead in equal_hours(tasks).items():
        rows.append(f"| {name} | {ahead.value:.0f} ({ahead.low:.0f} to {ahead.high:.0f}) |")
    return rows


def tables() -> str:
    tasks = published_tasks()
    (verdict,) = judged([equal_hours_claim(equal_hours(tasks))])
    parts = (critical_rows(tasks), other_rows(tasks), comparison_rows(tasks))
    return "\n\n".join(["\n".join(rows) for rows in parts] + [f"{verdict}"])


if __name__ == "__main__":
    print(tables())
