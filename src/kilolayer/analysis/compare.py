"""Compare groups of runs: which group scores best, and how strong the evidence is.

Several tasks are also compared together, as in arXiv 2108.13264. For this their scores are
normalised to the share of the episode within the success radius, so that all have one unit.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table, concatenate_answers, merge_task_answers
from kilolayer.analysis.claims import Claim, Verdict, assess_claims, inconclusive
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.groups import (
    TASK,
    Group,
    group_by,
    progress_unit,
    range_text,
    score_bounds,
    score_labels,
    varying_factors,
)
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import (
    improvement_p_value,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from kilolayer.analysis.study import SMALLEST_EFFECT
from kilolayer.analysis.study_scores import TIME_AT_GOAL, estimate_series
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import shell_quoted
from kilolayer.settings import values_of

# Settings without an effect on what the agent learns.
LOGGING_FIELDS = ("tensorboard", "wandb")
THRESHOLDS = np.linspace(0, 1, 41)
AGGREGATE_NOTE = (
    "Over all tasks, scores are time at goal as a share of the episode. The interquartile mean is "
    "the mean of the middle half of all runs; its interval is a bootstrap within each task. The "
    "performance profile is the share of runs above each score, with Wilson's interval. The "
    "probability of improvement is how often a run beats a run of the first group on the same "
    "task; ties count half. Its interval is Newcombe's and its p-value that of a rank test that "
    "permutes runs within each task. These claims are corrected for their own number, and the "
    "claims of each task for theirs."
)


def load_groups(paths: Sequence[str | Path]) -> tuple[Group, ...]:
    """Group the runs by their config without the seed, in the order given.

    A directory of several seeds counts as its runs. Raises UserError for fewer than two runs, a run
    given twice, a run without an evaluation, and runs of one task with different task settings.
    """
    directories = [member for path in paths for member in RunDirectory.open(Path(path)).members]
    if len(directories) < 2:
        raise UserError(f"a comparison needs at least two runs and there is {len(directories)}.")
    runs = [Run(directory) for directory in directories]
    for first, second in itertools.combinations(runs, 2):
        _require_comparable(first, second)
    for run in runs:
        if run.newest(TIME_AT_GOAL) is None:
            raise UserError(
                f"the run in {run.path} has no evaluation yet: wait for its first, or continue it "
                f"with `kilolayer train --resume {shell_quoted(run.path)}`."
            )
    return _group(runs)


def _require_comparable(first: Run, second: Run) -> None:
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"the run in {first.path} is given twice: name each run once.")
    same_task = first.config.task.name == second.config.task.name
    for name, value in values_of(first.config.task).items():
        other = getattr(second.config.task, name)
        if same_task and value != other:
            raise UserError(
                f"{first.path} and {second.path} have different settings of the same task ({name} "
                f"is {value} and {other}), so their scores cannot be compared: use one {name}."
            )
    if first.config == second.config:
        raise UserError(
            f"{first.path} and {second.path} have the same config and the same seed, so they are "
            "one result and not two: leave one out."
        )


def _group(runs: Sequence[Run]) -> tuple[Group, ...]:
    configs = [run.config.flat() for run in runs]
    fields = [name for name in varying_factors(configs) if name not in LOGGING_FIELDS]
    groups = group_by(fields, zip(configs, runs, strict=True))
    for group in groups:
        if len({run.config.seed for run in group.runs}) < group.seeds:
            names = ", ".join(str(run.path) for run in group.runs)
            raise UserError(f"{names} repeat a seed, so they are not independent: leave one out.")
    return groups


def compare_groups(groups: Sequence[Group]) -> Answer:
    """Scores of each group's newest evaluations, and the evidence for the best group.

    Several tasks are compared over all tasks together, and one by one.
    """
    by_task = groups_by_task(groups)
    if len(by_task) == 1:
        return _compare_one_task(groups)
    return concatenate_answers(
        aggregate_over_tasks(groups, lambda run: run.final(TIME_AT_GOAL), failed=0),
        merge_task_answers({task: _compare_one_task(group) for task, group in by_task.items()}),
    )


def groups_by_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each task; their factors leave out the task."""
    by_task: dict[str, list[Group]] = {}
    for group in groups:
        by_task.setdefault(group.runs[0].config.task.name, []).append(group.without(TASK))
    return by_task


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
        (AGGREGATE_NOTE,),
    )


def _normalised_scores(
    groups: Sequence[Group], score: Callable[[Run], float]
) -> dict[str, list[np.ndarray]]:
    """Scores `[seeds]` of each task by group name; the order of the tasks is always the same."""
    scores: dict[str, dict[str, list[float]]] = {}
    for group in groups:
        by_task = scores.setdefault(group.without(TASK).name, {})
        for run in group.runs:
            own = by_task.setdefault(run.config.task.name, [])
            own.append(score(run) / run.task.episode_length)
    tasks = sorted({task for by_task in scores.values() for task in by_task})
    return {
        name: [np.array(by_task[task]) for task in tasks]
        for name, by_task in scores.items()
        if all(len(by_task.get(task, ())) > 1 for task in tasks)
    }


def _compare_one_task(groups: Sequence[Group]) -> Answer:
    replicated = [group for group in groups if group.seeds > 1]
    tables = [_score_table(groups)]
    if len(replicated) > 1:
        tables.append(_pairwise_table(replicated))
    notes = [
        "Scores are those of each run's newest evaluation with the deterministic policy. Intervals "
        "are 95 % intervals of the mean (Student), cut to the range of possible scores. A group "
        "of one seed has no interval.",
        "Probability of improvement: how often a run of the first group beats a run of the second. "
        "Ties count half; the interval is Newcombe's (2006, method 5). p is the two-sided p-value "
        "of a permutation test of the means, exact up to eight seeds against eight, without "
        "correction for the number of pairs. "
        "With three seeds per group it is at least 0.1.",
    ]
    notes += [
        f"{run.path.name} is unfinished: its score is that of the evaluation at "
        f"{run.curve(TIME_AT_GOAL)[0][-1]:,.0f} of {run.planned_progress:,} {run.progress_unit}."
        for group in groups
        for run in group.runs
        if not run.directory.finished
    ]
    return Answer(_verdicts(groups), (), tuple(tables), tuple(notes))


def _score_table(groups: Sequence[Group]) -> Table:
    labels, rows = score_labels(groups[0].task), []
    for group in groups:
        scores = map(group.score_text, labels)
        steps = range_text([run.curve(TIME_AT_GOAL)[0][-1] for run in group.runs], "{:,.0f}".format)
        rows.append((group.name, str(group.seeds), *scores, steps))
    columns = ("group", "seeds", *labels.values(), progress_unit(groups))
    return Table("Newest evaluation", columns, tuple(rows))


def _pairwise_table(groups: Sequence[Group]) -> Table:
    rows = []
    for first, second in itertools.combinations(groups, 2):
        scores, baseline = first.final(TIME_AT_GOAL), second.final(TIME_AT_GOAL)
        improvement = probability_of_improvement([scores], [baseline])
        rows.append(
            (
                first.name,
                second.name,
                f"{improvement.value:.2f} ({improvement.low:.2f} to {improvement.high:.2f})",
                f"{len(scores)} and {len(baseline)}",
                f"{mean_difference(scores, baseline).p:.2g}",
            )
        )
    columns = ("group", "compared with", "probability of improvement (95 %)", "seeds", "p")
    return Table("Time at goal, pairwise comparison", columns, tuple(rows))


def _verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Whether the best mean is significantly above all others.

    Only groups of two or more seeds are tested; a second verdict lists the groups of one seed."""
    if len(groups) == 1:
        return (inconclusive("There is nothing to compare: the runs differ by their seed alone."),)
    verdicts: list[Verdict] = []
    ranked = sorted(groups, key=lambda group: -group.final(TIME_AT_GOAL).mean())
    replicated = [group for group in ranked if group.seeds > 1]
    if len(replicated) > 1:
        verdicts += assess_claims([_best_group_claim(replicated[0], replicated[1:])])
    if single := [group for group in ranked if group.seeds == 1]:
        sentence = f"Groups with a single seed cannot be tested: {_group_scores(single)}."
        verdicts.append(inconclusive(sentence))
    return tuple(verdicts)


def _best_group_claim(best: Group, others: Sequence[Group]) -> Claim:
    """Claim that the best mean is above all others; the effect is its lead over the second."""
    scores = f"Mean time at goal in control steps: {_group_scores([best, *others])}."
    lead = best.final(TIME_AT_GOAL)
    changes = [mean_difference(lead, other.final(TIME_AT_GOAL)) for other in others]
    # Bonferroni: the best mean was selected after the runs.
    p = min(1.0, max(change.p for change in changes) * len(others))
    low, high = score_bounds(best.task, TIME_AT_GOAL)
    compared = "the other group" if len(others) == 1 else "all other groups, of the next group"
    return Claim(
        f"{scores} {best.name} is ahead of {compared} by",
        changes[0].estimate,
        p,
        0,
        SMALLEST_EFFECT * (high - low) if len(others) == 1 else None,
        f"{scores} {best.name} is ahead of the next group, perhaps by chance, by",
    )


def _group_scores(groups: Sequence[Group]) -> str:
    return "; ".join(f"{group.name}: {group.score_text(TIME_AT_GOAL)}" for group in groups)
