"""The sections of a study's page on cost, runs, methods and environment. Each returns HTML."""

import json
from collections import Counter

from kilolayer.analysis.groups import Group, range_text, varying_factors
from kilolayer.analysis.published import EPISODE_LENGTH, read_published
from kilolayer.analysis.run_cost import flops_per_update, parameter_count, wall_clock_seconds
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.report.page import bullet_list, collapsible, paragraph, table
from kilolayer.report.published_plot import published_plot
from kilolayer.report.run_metadata import manifest_entries
from kilolayer.report.study_layout import Layout
from kilolayer.report.svg import rounded_count
from kilolayer.run_directory import CONFIG_KEY
from kilolayer.types import UserError

# Manifest entries that differ in every run.
PER_RUN_ENTRIES = ("command", "seed", "started", CONFIG_KEY)
NOTES = (
    "Bands and intervals on this page are 95 % intervals of the mean over seeds (Student). The "
    "intervals of the verdicts are those of their tests. A band may extend beyond its panel, since "
    "the axes are scaled to the runs.",
    "Time at goal: control steps of an evaluation episode within the success radius, with the "
    "deterministic policy, mean over the episodes.",
    "Runs that have not finished appear only in the table of runs.",
)


def cost_section(layout: Layout) -> str:
    rows = [_cost_row(group) for group in layout.groups]
    text = (
        "Minutes: wall-clock time with compilation and evaluation, lowest to highest over seeds. "
        "They depend on the machine and its load. Floating-point operations: those of matrix "
        "products, counted from the program."
    )
    header = (
        "runs", "seeds", "minutes", "environment steps", "updates", "parameters",
        "floating-point operations per update", "floating-point operations in total",
    )  # fmt: skip
    return paragraph(text) + table(header, rows)


def _cost_row(group: Group) -> tuple[str, ...]:
    minutes = [wall_clock_seconds(run.events) / 60 for run in group.runs]
    steps = [run.newest_count("env_steps") for run in group.runs]
    updates = [run.newest_count("updates") for run in group.runs]
    flops = flops_per_update(group.runs[0])
    arithmetic = ("not counted", "not counted")
    if flops is not None:
        totals = [flops * count for count in updates]
        arithmetic = (rounded_count(flops), range_text(totals, rounded_count))
    return (
        group.name,
        str(group.seeds),
        range_text(minutes, "{:.3g}".format),
        range_text(steps, "{:,}".format),
        range_text(updates, "{:,}".format),
        f"{parameter_count(group.runs[0]):,}",
        *arithmetic,
    )


def runs_section(layout: Layout) -> str:
    """The output of every failed run, then every cell of the grid with its state."""
    study = layout.study
    names = varying_factors([run.factors for run in study.runs])
    names += ["seed"] * any("seed" in run.factors for run in study.runs)
    header = (
        "run", *(name.replace("_", " ") for name in names), "state", "seconds", "success",
        "time at goal",
    )  # fmt: skip
    rows = [
        (
            run.name,
            *(str(run.factors.get(name, "")) for name in names),
            run.state,
            *_newest_scores(run),
        )
        for run in study.runs
    ]
    highlights = [run.state != "finished" for run in study.runs]
    reasons = [
        collapsible(_failure_summary(run.name, run.failure), run.failure)
        for run in study.runs
        if run.failure
    ]
    return paragraph(run_counts(study)) + "".join(reasons) + table(header, rows, highlights)


def _failure_summary(name: str, failure: str) -> str:
    """The last line of a failed run's output, which is its error message."""
    lines = failure.strip().splitlines() or ["no reason was recorded"]
    return f"{name} failed: {lines[-1]}"


def run_counts(study: Study) -> str:
    """The number of runs in each state, as a sentence."""
    counts = Counter(run.state for run in study.runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"The grid has {len(study.runs)} runs: {states or 'it is empty'}."


def _newest_scores(cell: StudyRun) -> tuple[str, str, str]:
    """Seconds, success and time at goal of the newest evaluation; empty if unknown."""
    if not (cell.path / "config.json").exists():
        return "", "", ""
    run = cell.run
    scores = [run.curve(f"evaluation/{name}")[1] for name in ("success", "time_at_goal")]
    success, time = (f"{score[-1]:.3g}" if len(score) else "" for score in scores)
    return f"{wall_clock_seconds(run.events):,.0f}", success, time


def published_section(layout: Layout) -> str:
    """The study's curves beside published curves of the same task."""
    file = layout.published
    if file is None:
        raise UserError(
            "no published curves were given: `kilolayer report STUDY --published FILE.json` adds "
            "them."
        )
    published = read_published(file)
    groups: dict[str, list[Group]] = {}
    for group in layout.groups:
        groups.setdefault(group.runs[0].task.name, []).append(group)
    common = {name: groups[name] for name in groups if name in published}
    if not common:
        raise UserError(
            f"{file.name} has no curve of {', '.join(groups)}; it has {', '.join(published)}."
        )
    lengths = {name: common[name][0].runs[0].task.episode_length for name in common}
    other = [f"{name} ({steps})" for name, steps in lengths.items() if steps != EPISODE_LENGTH]
    notes = [
        "Scores are shares of the episode; published bands are 1.96 standard errors. Compare "
        "trends, not absolute scores: published runs used another physics engine."
    ]
    if other:
        notes.append(
            f"Published episodes have {EPISODE_LENGTH} control steps; episodes of this study have "
            f"another length: {', '.join(other)}."
        )
    return "".join(map(paragraph, notes)) + published_plot(common, published)


def notes_section(layout: Layout) -> str:
    return bullet_list([*layout.answer.notes, *NOTES])


def environment_section(layout: Layout) -> str:
    """The study's question, size and version, and the manifests of its runs.

    An entry that differs between runs shows every value with the number of its runs."""
    study = layout.study
    plan = json.loads((study.path / "study.json").read_text(encoding="utf-8"))
    rows = [
        (f"study {name}", str(plan[name]))
        for name in ("question", "size", "version", "source")
        if name in plan
    ]
    files = [run.path / "manifest.json" for run in study.runs]
    manifests = [dict(manifest_entries(file)) for file in files if file.is_file()]
    for name in dict.fromkeys(name for manifest in manifests for name in manifest):
        counts = Counter(manifest.get(name, "none") for manifest in manifests)
        if len(counts) == 1:
            rows.append((name, next(iter(counts))))
        elif name == "started":
            rows.append((name, f"{min(counts)} to {max(counts)}"))
        elif name not in PER_RUN_ENTRIES:
            values = ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())
            rows.append((name, values))
    return table(("entry", "value"), rows)


def compute_hours(study: Study) -> float:
    """Hours of all runs together."""
    present = [run for run in study.runs if (run.path / "config.json").exists()]
    return sum(wall_clock_seconds(run.run.events) for run in present) / 3600
