"""Compare groups of runs: which group scores best, and how strong the evidence is."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kilolayer.analysis.aggregate import over_tasks
from kilolayer.analysis.answer import Answer, Table, followed, joined
from kilolayer.analysis.claims import Claim, Verdict, judged, unsettled
from kilolayer.analysis.differences import difference
from kilolayer.analysis.groups import (
    SEED,
    TASK,
    Group,
    score_bounds,
    varying_names,
    with_interval,
)
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import probability_of_improvement
from kilolayer.analysis.study import SMALLEST_EFFECT
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import shell_quoted
from kilolayer.settings import values_of
from kilolayer.types import UserError

SCORE = "evaluation/time_at_goal"
# Settings without an effect on what the agent learns.
WITHOUT_EFFECT = ("tensorboard", "wandb")


def load_groups(paths: Sequence[str | Path]) -> tuple[Group, ...]:
    """Group the runs by their config without the seed, in the order given.

    A directory of several seeds counts as its runs. Raises UserError for fewer than two runs, a run
    given twice, a run without an evaluation, and runs of one task with different task settings.
    """
    directories = [member for path in paths for member in RunDirectory.open(Path(path)).members]
    if len(directories) < 2:
        raise UserError(f"a comparison needs two runs at least and there is {len(directories)}.")
    runs = [Run(directory) for directory in directories]
    for first, second in itertools.combinations(runs, 2):
        _check_pair(first, second)
    for run in runs:
        if len(run.curve(SCORE)[0]) == 0:
            raise UserError(
                f"the run in {run.path} has no evaluation yet: wait for its first, or continue it "
                f"with `kilolayer train --resume {shell_quoted(run.path)}`."
            )
    return _grouped(runs)


def _check_pair(first: Run, second: Run) -> None:
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"the run in {first.path} is given twice: name each run once.")
    same_task = first.config.task.name == second.config.task.name
    for name, ours in values_of(first.config.task).items():
        theirs = getattr(second.config.task, name)
        if same_task and ours != theirs:
            raise UserError(
                f"{first.path} and {second.path} are runs of one task that differ in it ({name} is "
                f"{ours} and {theirs}), so their scores cannot be compared: give them one {name}."
            )
    if first.config == second.config:
        raise UserError(
            f"{first.path} and {second.path} have the same config and the same seed, so they are "
            "one result and not two: leave one out."
        )


def _grouped(runs: Sequence[Run]) -> tuple[Group, ...]:
    configs = [run.config.flat() for run in runs]
    fields = [name for name in varying_names(configs) if name not in WITHOUT_EFFECT]
    groups: dict[tuple, tuple[dict[str, Any], list[Run]]] = {}
    for run, config in zip(runs, configs, strict=True):
        factors = {name: config.get(name) for name in fields}
        groups.setdefault(tuple(factors.values()), (factors, []))[1].append(run)
    for factors, members in groups.values():
        seeds = [run.config.seed for run in members]
        if len(set(seeds)) < len(seeds):
            names = ", ".join(str(run.path) for run in members)
            raise UserError(f"{names} repeat a seed, so they are not independent: leave one out.")
        assert SEED not in factors
    return tuple(Group(factors, tuple(members)) for factors, members in groups.values())


def compare_groups(groups: Sequence[Group]) -> Answer:
    """Scores of each group's newest evaluations, and the evidence for the best group.

    Several tasks are compared over all tasks together, and one by one.
    """
    by_task = groups_by_task(groups)
    if len(by_task) == 1:
        return _compare_one_task(groups)
    together = over_tasks(groups, lambda run: run.final(SCORE), failed=0)
    return followed(together, joined({task: _compare_one_task(g) for task, g in by_task.items()}))


def groups_by_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each task; their factors leave out the task."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        factors = {name: value for name, value in group.factors.items() if name != TASK}
        own = Group(factors, group.runs)
        found.setdefault(group.runs[0].config.task.name, []).append(own)
    return found


def _compare_one_task(groups: Sequence[Group]) -> Answer:
    sized = [group for group in groups if group.seeds > 1]
    tables = [_scores(groups)]
    if len(sized) > 1:
        tables.append(_pairs(sized))
    notes = [
        "Scores are those of each run's newest evaluation with the deterministic policy. Intervals "
        "hold the mean with 95 % (Student), cut to what a score can be; a group of one seed has "
        "none.",
        "Probability of improvement: how often a run of the first group beats one of the second, "
        "ties counting half; interval after Newcombe (2006, method 5). p is that of an exact "
        "permutation test of the means, two-sided and of this pair alone; with three seeds each it "
        "cannot fall below 0.1.",
    ]
    notes += [
        f"{run.path.name} is unfinished: it counts with its evaluation at "
        f"{run.curve(SCORE)[0][-1]:,.0f} of {run.plan.total_steps:,} environment steps."
        for group in groups
        for run in group.runs
        if not run.directory.finished
    ]
    return Answer(_verdicts(groups), (), tuple(tables), tuple(notes))


def _scores(groups: Sequence[Group]) -> Table:
    task = groups[0].runs[0].task
    unit = task.goal.coordinates[0].unit
    metrics = ("evaluation/success", SCORE, "evaluation/smallest_distance")
    return Table(
        "Newest evaluation",
        (
            "group",
            "seeds",
            "success, share of episodes",
            f"time at goal, control steps of {task.episode_length}",
            f"smallest distance, {unit}",
            "environment steps",
        ),
        tuple(
            (
                group.name,
                str(group.seeds),
                *(with_interval(group.final(m), score_bounds(task, m)) for m in metrics),
                _steps(group),
            )
            for group in groups
        ),
    )


def _steps(group: Group) -> str:
    steps = sorted({int(run.curve(SCORE)[0][-1]) for run in group.runs})
    return " to ".join(f"{count:,}" for count in dict.fromkeys((steps[0], steps[-1])))


def _pairs(groups: Sequence[Group]) -> Table:
    rows = []
    for first, second in itertools.combinations(groups, 2):
        ours, theirs = first.final(SCORE), second.final(SCORE)
        found = probability_of_improvement([ours], [theirs])
        rows.append(
            (
                first.name,
                second.name,
                f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})",
                f"{len(ours)} and {len(theirs)}",
                f"{difference(ours, theirs).p:.2g}",
            )
        )
    header = ("group", "against", "probability of improvement (95 %)", "seeds", "p")
    return Table("Time at goal, group against group", header, tuple(rows))


def _verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Whether the group with the best mean is ahead of all others by more than chance.

    Only groups of two or more seeds are tested; a second verdict lists the groups of one seed."""
    if len(groups) == 1:
        return (unsettled("There is nothing to compare: the runs differ by their seed alone."),)
    found: list[Verdict] = []
    ranked = sorted(groups, key=lambda group: -group.final(SCORE).mean())
    sized = [group for group in ranked if group.seeds > 1]
    if len(sized) > 1:
        found += judged([_best(sized[0], sized[1:])])
    single = [group for group in ranked if group.seeds == 1]
    if single:
        sentence = f"Nothing can be said of groups with a single seed: {_scored(single)}."
        found.append(unsettled(sentence))
    return tuple(found)


def _best(best: Group, others: Sequence[Group]) -> Claim:
    """Claim that the best mean is ahead of all others; the effect is the lead over the second."""
    scores = f"Mean time at goal in control steps: {_scored([best, *others])}."
    changes = [difference(best.final(SCORE), other.final(SCORE)) for other in others]
    # Bonferroni: the best mean was picked after the fact.
    p = min(1.0, max(change.p for change in changes) * len(others))
    low, high = score_bounds(best.runs[0].task, SCORE)
    whom = "the other" if len(others) == 1 else "every other, the next"
    return Claim(
        f"{scores} {best.name} is ahead of {whom} by",
        changes[0].value,
        p,
        0,
        SMALLEST_EFFECT * (high - low) if len(others) == 1 else None,
        f"{scores} Chance alone may put {best.name} ahead of the next, by",
    )


def _scored(groups: Sequence[Group]) -> str:
    bounds = score_bounds(groups[0].runs[0].task, SCORE)
    return "; ".join(f"{g.name}: {with_interval(g.final(SCORE), bounds)}" for g in groups)
