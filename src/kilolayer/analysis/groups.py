"""Groups of runs that differ only by their seed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import UNBOUNDED, mean_interval
from kilolayer.analysis.study import Study
from kilolayer.tasks.base import Task

SEED, TASK = "seed", "task"


@dataclass(frozen=True)
class Group:
    """factors: the settings that distinguish this group, by name. runs: one per seed."""

    factors: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return factor_text(self.factors) or "all runs"

    @property
    def seeds(self) -> int:
        return len(self.runs)

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Environment steps `[evaluations]` at which every run was evaluated, and the values
        `[seeds, evaluations]`. Runs that never logged the metric are left out."""
        curves = [run.curve(metric) for run in self.runs]
        logged = [dict(zip(*curve, strict=True)) for curve in curves if len(curve[0])]
        if not logged:
            return np.zeros(0), np.zeros((0, 0))
        steps = sorted(set.intersection(*map(set, logged)))
        return np.array(steps), np.array([[curve[step] for step in steps] for curve in logged])

    def final(self, metric: str) -> np.ndarray:
        """The last value of each run that has logged the metric, at most `[seeds]`."""
        values = [run.curve(metric)[1] for run in self.runs]
        return np.array([value[-1] for value in values if len(value)])


def study_groups(study: Study) -> tuple[Group, ...]:
    """Group the finished runs of a study by the factors that vary over its grid."""
    varying = varying_names([run.factors for run in study.runs])
    cells: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for cell in study.finished:
        factors = {name: cell.factors.get(name) for name in varying}
        cells.setdefault(json.dumps(factors), (factors, []))[1].append(cell.run)
    return tuple(Group(factors, tuple(runs)) for factors, runs in cells.values())


def varying_names(factors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the factors that vary, without the seed, in order of first appearance."""
    names = dict.fromkeys(name for each in factors for name in each if name != SEED)
    return [name for name in names if len({json.dumps(each.get(name)) for each in factors}) > 1]


def leading_factor(groups: Sequence[Group]) -> str | None:
    """The factor to compare the groups by: depth if it varies, else the first but the task."""
    names = varying_names([group.factors for group in groups])
    if "depth" in names:
        return "depth"
    return next((name for name in names if name != TASK), next(iter(names), None))


def by_rest(groups: Iterable[Group], leading: str | None) -> dict[str, list[Group]]:
    """Lists of groups that differ only by the leading factor, keyed by the other factors' text."""
    rows: dict[str, list[Group]] = {}
    for group in groups:
        rest = {name: value for name, value in group.factors.items() if name != leading}
        rows.setdefault(factor_text(rest), []).append(group)
    return rows


def factor_text(factors: Mapping[str, Any]) -> str:
    """Text such as `depth 8, batch size 256`; a task appears as its name alone."""
    return ", ".join(
        str(value) if name == TASK else f"{name.replace('_', ' ')} {_text(value)}"
        for name, value in factors.items()
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "default" if value is None else str(value)


def with_interval(
    values: np.ndarray, bounds: tuple[float, float] = UNBOUNDED, form: str = ".3g"
) -> str:
    """Mean of `values [seeds]` with its 95 % interval within the bounds, as text.

    One seed, or seeds that all agree, show no spread: the text has their value and says so."""
    if len(values) == 0:
        return "not measured"
    if len(values) == 1:
        return f"{values[0]:{form}} (one seed)"
    if np.ptp(values) == 0:
        return f"{values[0]:{form}} (all {len(values)} seeds)"
    mean = mean_interval(values, bounds)
    return f"{mean.value:{form}} ({mean.low:{form}} to {mean.high:{form}})"


def score_bounds(task: Task, metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric such as `evaluation/success` can have."""
    name = metric.rsplit("/", 1)[-1]
    if name == "time_at_goal":
        return 0.0, float(task.episode_length)
    if name.endswith("distance"):
        return 0.0, np.inf
    shares = ("success", "survival", "diverged", "path_efficiency")
    return (0.0, 1.0) if name.endswith(shares) else UNBOUNDED
