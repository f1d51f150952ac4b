"""Groups of runs that differ only by their seed."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    @property
    def task(self) -> Task:
        return self.runs[0].task

    def without(self, factor: str | None) -> "Group":
        """The same runs, named by the other factors."""
        others = {name: value for name, value in self.factors.items() if name != factor}
        return Group(others, self.runs)

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Environment steps `[evaluations]` at which every run was evaluated, and the values
        `[seeds, evaluations]`. Runs without the metric are left out."""
        curves = [run.curve(metric) for run in self.runs]
        logged = [dict(zip(*curve, strict=True)) for curve in curves if len(curve[0])]
        if not logged:
            return np.zeros(0), np.zeros((0, 0))
        steps = sorted(set.intersection(*map(set, logged)))
        return np.array(steps), np.array([[curve[step] for step in steps] for curve in logged])

    def final(self, metric: str) -> np.ndarray:
        """The last value of each run that has logged the metric, at most `[seeds]`."""
        values = [run.newest(metric) for run in self.runs]
        return np.array([value for value in values if value is not None])

    def score_text(self, metric: str) -> str:
        """Mean of `final` with its interval; see `mean_text`."""
        return mean_text(self.final(metric), score_bounds(self.task, metric))


def study_groups(study: Study) -> tuple[Group, ...]:
    """Group the finished runs of a study by the factors that vary over its grid."""
    varying = varying_factors([run.factors for run in study.runs])
    return group_by(varying, [(cell.factors, cell.run) for cell in study.finished])


def group_by(
    names: Sequence[str], runs: Iterable[tuple[Mapping[str, Any], Run]]
) -> tuple[Group, ...]:
    """Group runs by the named factors. runs: the factors of each run, and the run."""
    groups: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for values, run in runs:
        factors = {name: values.get(name) for name in names}
        groups.setdefault(json.dumps(factors), (factors, []))[1].append(run)
    return tuple(Group(factors, tuple(members)) for factors, members in groups.values())


def varying_factors(factors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the factors that vary, without the seed, in order of first appearance."""
    names = dict.fromkeys(name for each in factors for name in each if name != SEED)
    return [name for name in names if len({json.dumps(each.get(name)) for each in factors}) > 1]


def factor_text(factors: Mapping[str, Any]) -> str:
    """Text such as `depth 8, batch size 256`; of a task only the name is given."""
    return ", ".join(
        str(value) if name == TASK else f"{name.replace('_', ' ')} {_value_text(value)}"
        for name, value in factors.items()
    )


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "default" if value is None else str(value)


def mean_text(values: np.ndarray, bounds: tuple[float, float] = UNBOUNDED) -> str:
    """Mean of `values [seeds]` with its 95 % interval within the bounds, as text.

    One seed, or seeds that all agree, have no interval: the text gives their value and says so."""
    if len(values) == 0:
        return "not measured"
    if len(values) == 1:
        return f"{values[0]:.3g} (one seed)"
    if np.ptp(values) == 0:
        return f"{values[0]:.3g} (all {len(values)} seeds)"
    mean = mean_interval(values, bounds)
    return f"{mean.value:.3g} ({mean.low:.3g} to {mean.high:.3g})"


def range_text(values: Sequence[float], text: Callable[[float], str]) -> str:
    """Lowest and highest value as text; one value if both texts are equal."""
    return " to ".join(dict.fromkeys((text(min(values)), text(max(values)))))


def progress_unit(groups: Iterable[Group]) -> str:
    """The unit of the groups' curves: environment steps, or updates of runs from a dataset."""
    return " or ".join(dict.fromkeys(run.progress_unit for group in groups for run in group.runs))


def score_labels(task: Task) -> dict[str, str]:
    """Labels of the evaluation metrics that compare groups."""
    return {
        "evaluation/success": "success, share of episodes",
        "evaluation/time_at_goal": f"time at goal, control steps of {task.episode_length}",
        "evaluation/smallest_distance": f"smallest distance, {task.goal.coordinates[0].unit}",
    }


def score_bounds(task: Task, metric: str) -> tuple[float, float]:
    """The smallest and the largest possible value of a metric such as `evaluation/success`."""
    name = metric.rsplit("/", 1)[-1]
    if name == "time_at_goal":
        return 0.0, float(task.episode_length)
    if name.endswith(("distance", "travel", "speed", "contacts")):
        return 0.0, np.inf
    shares = ("success", "survival", "diverged", "path_efficiency", "falls", "_share", "accuracy")
    return (0.0, 1.0) if name.endswith(shares) else UNBOUNDED
