"""Several tasks together: interquartile mean, performance profile, probability of improvement.

Source: arXiv 2108.13264. A score is the share of the episode within the success radius, a unit that
all tasks have in common.
"""

from collections.abc import Callable, Sequence

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, judged, unsettled
from kilolayer.analysis.groups import TASK, Group, factor_text
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import (
    improvement_p,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

THRESHOLDS = np.linspace(0, 1, 41)
NOTE = (
    "Over tasks: scores are time at goal as a share of the episode. The interquartile mean is that "
    "of the middle half of all runs, its interval a bootstrap within each task; the performance "
    "profile is the share of runs above each score, with Wilson's interval; the probability of "
    "improvement is how often a run beats one of the first group on the same task, ties counting "
    "half, with Newcombe's interval and a rank test whose runs are divided anew within each task. "
    "These claims are corrected for their own number, those of each task for theirs."
)


def over_tasks(groups: Sequence[Group], score: Callable[[Run], float], failed: int) -> Answer:
    """Compare groups over all tasks together; each group needs runs on every task.

    score: of a run, in control steps. The first group is the baseline. Groups that lack a task, or
    that have a single seed on a task, are left out.
    """
    strata = _by_task(groups, score)
    if len(strata) < 2:
        sentence = "Over all tasks nothing can be said: two groups need two seeds on every task."
        return Answer((unsettled(sentence),))
    first, *others = strata
    rows, series, claims = [], [], []
    for name, scores in strata.items():
        generator = np.random.default_rng(0)
        mean = stratified_bootstrap(scores, interquartile_mean, generator)
        improvement = probability_of_improvement(scores, strata[first])
        rows.append((name, str(sum(map(len, scores))), str(mean), str(improvement)))
        profile = performance_profile(scores, THRESHOLDS)
        ends = (tuple(part.tolist()) for part in (profile.value, profile.low, profile.high))
        series.append(Series(name, tuple(THRESHOLDS.tolist()), *ends))
        if name in others:
            says = (
                f"Over {len(scores)} tasks the chance that a run of {name} beats one of {first} on "
                "the same task is"
            )
            p = improvement_p(scores, strata[first], generator)
            claims.append(Claim(says, improvement, p, failed, None))
    columns = ("group", "runs", "interquartile mean", f"probability of improvement over {first}")
    axes = ("share of the episode at the goal", "share of runs above")
    profiles = Plot("Performance profile", *axes, tuple(series))
    return Answer(
        judged(claims), (profiles,), (Table("All tasks together", columns, tuple(rows)),), (NOTE,)
    )


def _by_task(groups: Sequence[Group], score: Callable[[Run], float]) -> dict[str, list[np.ndarray]]:
    """By group name: the scores `[seeds]` of each task, with the tasks in the same order."""
    found: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        name = factor_text({n: v for n, v in group.factors.items() if n != TASK}) or "all runs"
        for run in group.runs:
            scores = found.setdefault(name, {}).setdefault(run.config.task.name, [])
            scores.append(score(run) / run.task.episode_length)
    tasks = sorted({task for by_task in found.values() for task in by_task})
    return {
        name: [np.array(by_task[task]) for task in tasks]
        for name, by_task in found.items()
        if all(len(by_task.get(task, ())) > 1 for task in tasks)
    }
