"""Compare groups over several tasks: interquartile mean, profile, probability of improvement.

Source: arXiv 2108.13264. Scores are normalised to the share of the episode within the success
radius, so that all tasks have one unit.
"""

from collections.abc import Callable, Sequence

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.claims import Claim, assess_claims, inconclusive
from kilolayer.analysis.groups import TASK, Group, factor_text
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import (
    improvement_p_value,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from kilolayer.analysis.study_scores import estimate_series

THRESHOLDS = np.linspace(0, 1, 41)
NOTE = (
    "Over all tasks, scores are time at goal as a share of the episode. The interquartile mean is "
    "the mean of the middle half of all runs; its interval is a bootstrap within each task. The "
    "performance profile is the share of runs above each score, with Wilson's interval. The "
    "probability of improvement is how often a run beats a run of the first group on the same "
    "task; ties count half. Its interval is Newcombe's and its p-value that of a rank test that "
    "permutes runs within each task. These claims are corrected for their own number, and the "
    "claims of each task for theirs."
)


def aggregate_over_tasks(
    groups: Sequence[Group], score: Callable[[Run], float], failed: int
) -> Answer:
    """Compare groups over all tasks together; the first group is the baseline.

    score: of a run, in control steps. Groups that lack a task, or that have a single seed on a
    task, are left out.
    """
    scores_by_group = _normalised_scores(groups, score)
    if len(scores_by_group) < 2:
        return Answer(
            (inconclusive("A comparison over all tasks needs two groups with two seeds per task."),)
        )
    baseline = next(iter(scores_by_group))
    rows, series, claims = [], [], []
    for name, scores in scores_by_group.items():
        generator = np.random.default_rng(0)
        mean = stratified_bootstrap(scores, interquartile_mean, generator)
        improvement = probability_of_improvement(scores, scores_by_group[baseline])
        rows.append((name, str(sum(map(len, scores))), str(mean), str(improvement)))
        profile = performance_profile(scores, THRESHOLDS)
        series.append(estimate_series(name, THRESHOLDS, profile))
        if name != baseline:
            statement = (
                f"Over {len(scores)} tasks, the probability that a run of {name} beats a run of "
                f"{baseline} on the same task is"
            )
            p = improvement_p_value(scores, scores_by_group[baseline], generator)
            claims.append(Claim(statement, improvement, p, failed, None))
    columns = ("group", "runs", "interquartile mean", f"probability of improvement over {baseline}")
    axes = ("share of the episode at the goal", "share of runs above")
    return Answer(
        assess_claims(claims),
        (Plot("Performance profile", *axes, tuple(series)),),
        (Table("All tasks together", columns, tuple(rows)),),
        (NOTE,),
    )


def _normalised_scores(
    groups: Sequence[Group], score: Callable[[Run], float]
) -> dict[str, list[np.ndarray]]:
    """Scores `[seeds]` of each task by group name; the order of the tasks is always the same."""
    scores: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        name = factor_text({n: v for n, v in group.factors.items() if n != TASK}) or "all runs"
        for run in group.runs:
            own = scores.setdefault(name, {}).setdefault(run.config.task.name, [])
            own.append(score(run) / run.task.episode_length)
    tasks = sorted({task for by_task in scores.values() for task in by_task})
    return {
        name: [np.array(by_task[task]) for task in tasks]
        for name, by_task in scores.items()
        if all(len(by_task.get(task, ())) > 1 for task in tasks)
    }
