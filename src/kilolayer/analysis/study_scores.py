"""Scores of a study's finished runs, by the factors of its grid."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kilolayer.analysis.answer import Plot, Series, Table
from kilolayer.analysis.claims import Claim
from kilolayer.analysis.differences import Difference
from kilolayer.analysis.groups import mean_text, score_bounds
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import Estimate, mean_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.threshold import trailing_mean
from kilolayer.errors import UserError

TIME_AT_GOAL = "evaluation/time_at_goal"
SUCCESS = "evaluation/success"
DEPTH_AXIS = "depth, layers"
SCORE_AXIS = "time at goal, control steps"
SCORE_NOTE = (
    "Scores are time at goal: control steps of an episode within the success radius, mean of the "
    "last five evaluations of a run. Intervals are 95 %, cut to the range of possible scores."
)


def group_runs(runs: Iterable[StudyRun], *factors: str) -> dict[tuple[Any, ...], list[StudyRun]]:
    """Runs by the values of these factors: numbers in rising order, words in the grid's order;
    raises UserError if a run lacks a factor."""
    groups: dict[tuple[Any, ...], list[StudyRun]] = {}
    seen: dict[Any, int] = {}
    for run in runs:
        missing = [factor for factor in factors if factor not in run.factors]
        if missing:
            raise UserError(f"the run {run.name} has no factor {missing[0]}.")
        values = tuple(run.factors[factor] for factor in factors)
        groups.setdefault(values, []).append(run)
        for value in values:
            seen.setdefault(value, len(seen))

    def order(values: tuple[Any, ...]) -> tuple[float, ...]:
        return tuple(seen[value] if isinstance(value, str) else value for value in values)

    return {values: groups[values] for values in sorted(groups, key=order)}


def replicated_runs_by_depth(study: Study, min_depths: int = 1) -> dict[int, list[StudyRun]]:
    """Finished runs of each depth with at least two seeds; raises UserError if there are fewer than
    `min_depths` such depths."""
    groups = group_runs(study.finished, "depth")
    replicated = {depth: runs for (depth,), runs in groups.items() if len(runs) > 1}
    if len(replicated) < min_depths:
        raise UserError(
            f"this analysis needs at least two seeds per depth and {min_depths} such depth"
            f"{'s' * (min_depths > 1)}: run more seeds or depths."
        )
    return replicated


def final_score(run: Run, metric: str = TIME_AT_GOAL) -> float:
    """Mean of the last five evaluations; raises UserError if there are fewer."""
    return float(trailing_mean(run.curve(metric)[1])[-1])


def final_scores(runs: Iterable[StudyRun], metric: str = TIME_AT_GOAL) -> np.ndarray:
    """Final score of each run, `[seeds]`."""
    return np.array([final_score(run.run, metric) for run in runs])


def scores_by(study: Study, *factors: str, metric: str = TIME_AT_GOAL) -> dict[Any, np.ndarray]:
    """Final scores `[seeds]` by the value of one factor, or by the values of several; raises
    UserError if no run has finished."""
    groups = group_runs(study.finished, *factors)
    if not groups:
        raise UserError("no run has finished: finish the study first.")
    return {
        values[0] if len(factors) == 1 else values: final_scores(runs, metric)
        for values, runs in groups.items()
    }


def study_score_bounds(study: Study, metric: str = TIME_AT_GOAL) -> tuple[float, float]:
    """Smallest and largest value of a metric; all finished runs of the study have one task."""
    return score_bounds(study.finished[0].run.task, metric)


def equivalence_margin(study: Study, metric: str = TIME_AT_GOAL) -> float | None:
    """The largest difference in a metric that does not matter, in the metric's unit; None for a
    metric without bounds."""
    low, high = study_score_bounds(study, metric)
    return study.smallest_effect * (high - low) if np.isfinite(high - low) else None


def difference_claim(
    study: Study, statement: str, difference: Difference, metric: str = TIME_AT_GOAL
) -> Claim:
    """Claim that a score differs. statement: the sentence up to the size of the difference."""
    margin = equivalence_margin(study, metric)
    return Claim(statement, difference.estimate, difference.p, study.failed, margin)


def learning_curves(runs: list[StudyRun]) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps `[evaluations]` and time at goal `[seeds, evaluations]` of a group's runs;
    raises UserError if they were evaluated at different steps."""
    curves = [run.run.curve(TIME_AT_GOAL) for run in runs]
    steps = curves[0][0]
    for run, (own_steps, _) in zip(runs, curves, strict=True):
        if not np.array_equal(own_steps, steps):
            raise UserError(f"{run.name} was evaluated at other steps than {runs[0].name}.")
    return steps, np.stack([scores for _, scores in curves])


def score_table(study: Study, *factors: str) -> Table:
    """A row for each combination of the factors: seeds, mean scores with intervals, minutes."""
    rows = []
    for values, runs in group_runs(study.finished, *factors).items():
        task = runs[0].run.task
        means = (
            mean_text(final_scores(runs, metric), score_bounds(task, metric))
            for metric in (TIME_AT_GOAL, SUCCESS)
        )
        rows.append((*map(str, values), str(len(runs)), *means, f"{mean_minutes(runs):.1f}"))
    names = ("seeds", "time at goal", "success", "minutes per run")
    return Table("Scores", (*factors, *names), tuple(rows))


def mean_minutes(runs: Iterable[StudyRun]) -> float:
    """Wall-clock minutes that the runs logged, mean over the runs."""
    return float(np.mean([run.run.wall_clock_seconds for run in runs])) / 60


def estimate_series(name: str, x: Iterable[float], estimates: Sequence[Estimate]) -> Series:
    """Estimates with their intervals, at the positions x."""
    return Series(
        name,
        tuple(map(float, x)),
        tuple(estimate.value for estimate in estimates),
        tuple(estimate.low for estimate in estimates),
        tuple(estimate.high for estimate in estimates),
    )


def score_series(
    study: Study, name: str, scores: dict[Any, np.ndarray], metric: str = TIME_AT_GOAL
) -> Series:
    """Mean scores by a numeric factor, with intervals if every value has at least two seeds."""
    bounds = study_score_bounds(study, metric)
    if min(map(len, scores.values())) < 2:
        means = tuple(float(row.mean()) for row in scores.values())
        return Series(name, tuple(map(float, scores)), means)
    return estimate_series(name, scores, [mean_interval(row, bounds) for row in scores.values()])


def bar_plot(title: str, y_label: str, estimates: dict[str, Estimate]) -> Plot:
    """A bar with its interval for each named estimate."""
    series = estimate_series(y_label, range(len(estimates)), list(estimates.values()))
    return Plot(title, "", y_label, (series,), kind="bars", names=tuple(estimates))
