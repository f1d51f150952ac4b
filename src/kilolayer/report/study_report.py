"""The report of a study as one HTML file: question, verdicts, evidence and caveats."""

import json
from collections import Counter
from pathlib import Path

import jax

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.diagnostics import replay_batch
from kilolayer.analysis.groups import Group, range_text, varying_factors
from kilolayer.analysis.published import EPISODE_LENGTH, read_published
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.errors import UserError
from kilolayer.networks.arithmetic import arithmetic, parameter_counts
from kilolayer.report.answer_plots import answer_body, answer_verdicts
from kilolayer.report.group_curves import CURVES_CAPTION, published_plot
from kilolayer.report.page import (
    SectionSpec,
    bullet_list,
    cards,
    collapsible,
    notices,
    page,
    paragraph,
    table,
)
from kilolayer.report.run_report import COMPARABILITY_NOTE, has_published_scores, manifest_entries
from kilolayer.report.study_sections import Layout, behaviour_section, curves_section, maps_section
from kilolayer.report.svg import rounded_count
from kilolayer.run_directory import CONFIG_KEY
from kilolayer.runtime.files import write_atomically

MAX_NAMES = 6  # in a notice
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


def write_study_report(study: Study, answer: Answer, published: Path | None = None) -> Path:
    """Write `report.html` into the study directory and return its path.

    published: a file of published curves (see `read_published`), drawn beside the study's curves.
    The study may have no finished runs. A section that cannot be drawn shows the reason. Films are
    also stored in `media/`. Raises UserError if the file cannot be written.
    """
    layout = Layout(study, answer, published)
    subtitle = f"Study {study.question}, size {study.size}. {run_counts(study)}"
    verdicts = answer_verdicts(answer) if answer.verdicts else notices(["No verdict yet."])
    top = paragraph(subtitle, "caption") + verdicts + _notices(layout) + _cards(layout)
    sections = [spec.section(layout) for spec in SECTIONS]
    target = study.path / "report.html"
    write_atomically(target, page(study.question_text, top, sections))
    return target


def _notices(layout: Layout) -> str:
    study, texts = layout.study, []
    unfinished = [f"{run.name} ({run.state})" for run in study.runs if run.state != "finished"]
    if unfinished:
        texts.append(
            f"{len(unfinished)} of {len(study.runs)} runs did not finish and are excluded from the "
            f"verdicts: {_first_names(unfinished)}."
        )
    if study.finished:
        few = [group.name for group in layout.groups if group.seeds < 3]
        if few:
            texts.append(f"Fewer than three seeds: {_first_names(few)}.")
        if any(has_published_scores(group.task) for group in layout.groups):
            texts.append(COMPARABILITY_NOTE)
    return notices(texts)


def _first_names(names: list[str]) -> str:
    """At most `MAX_NAMES` names, and the number of the remaining names."""
    more = len(names) - MAX_NAMES
    return "; ".join(names[:MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")


def _cards(layout: Layout) -> str:
    study = layout.study
    if not study.finished:
        return ""
    seeds = [group.seeds for group in layout.groups]
    tasks = dict.fromkeys(group.task.name for group in layout.groups)
    hours = sum(cell.run.wall_clock_seconds for cell in study.runs if cell.has_begun) / 3600
    duration = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return cards(
        [
            (f"{len(study.finished)} of {len(study.runs)}", "runs finished"),
            (str(len(seeds)), "groups of runs that differ only by their seed"),
            (range_text(seeds, str), "seeds per group"),
            (str(len(tasks)), f"task{'s' * (len(tasks) > 1)}: {', '.join(tasks)}"),
            (duration, "wall-clock time of all runs together"),
        ]
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
    minutes = [run.wall_clock_seconds / 60 for run in group.runs]
    steps = [run.newest_count("env_steps") for run in group.runs]
    updates = [run.newest_count("updates") for run in group.runs]
    # Counted from shapes.
    run, key = group.runs[0], jax.random.key(0)
    state = jax.eval_shape(run.agent.init, key)
    try:
        batch = replay_batch(run)
    except UserError:  # the run has stored no batch
        counted = ("not counted", "not counted")
    else:
        flops = arithmetic(run.agent.update, state, batch, key).flops
        totals = [flops * count for count in updates]
        counted = (rounded_count(flops), range_text(totals, rounded_count))
    return (
        group.name,
        str(group.seeds),
        range_text(minutes, "{:.3g}".format),
        range_text(steps, "{:,}".format),
        range_text(updates, "{:,}".format),
        f"{sum(parameter_counts(state).values()):,}",
        *counted,
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
    reasons = ""
    for run in study.runs:
        if run.failure:
            # The last line of a failed run's output is its error message.
            lines = run.failure.strip().splitlines() or ["no reason was recorded"]
            reasons += collapsible(f"{run.name} failed: {lines[-1]}", run.failure)
    return paragraph(run_counts(study)) + reasons + table(header, rows, highlights)


def run_counts(study: Study) -> str:
    """The number of runs in each state, as a sentence."""
    counts = Counter(run.state for run in study.runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"The grid has {len(study.runs)} runs: {states or 'it is empty'}."


def _newest_scores(cell: StudyRun) -> tuple[str, str, str]:
    """Seconds, success and time at goal of the newest evaluation; empty if unknown."""
    if not cell.has_begun:
        return "", "", ""
    scores = [cell.run.newest(f"evaluation/{name}") for name in ("success", "time_at_goal")]
    success, time = ("" if score is None else f"{score:.3g}" for score in scores)
    return f"{cell.run.wall_clock_seconds:,.0f}", success, time


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
        groups.setdefault(group.task.name, []).append(group)
    common = {name: groups[name] for name in groups if name in published}
    if not common:
        raise UserError(
            f"{file.name} has no curve of {', '.join(groups)}; it has {', '.join(published)}."
        )
    lengths = {name: common[name][0].task.episode_length for name in common}
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


SECTIONS: tuple[SectionSpec[Layout], ...] = (
    SectionSpec(
        "evidence",
        "Evidence",
        "The plots and tables behind the verdicts. Error bars and bands are 95 % intervals over "
        "seeds. Intervals of few seeds may extend beyond the panel.",
        lambda layout: answer_body(layout.answer),
    ),
    SectionSpec("curves", "Learning curves", CURVES_CAPTION, curves_section),
    SectionSpec(
        "behaviour",
        "Movement",
        "Films and movement metrics of the trained agents: whether agents with a better score also "
        "move differently.",
        behaviour_section,
    ),
    SectionSpec(
        "maps",
        "Value maps",
        "The values of each critic for the same goals (stars). Brighter is higher. If a critic has "
        "learnt the walls, values fall along the corridors; otherwise they fall along the straight "
        "line through the walls.",
        maps_section,
    ),
    SectionSpec(
        "cost",
        "Cost",
        "Time, steps, parameters and operations of each group of runs.",
        cost_section,
    ),
    SectionSpec(
        "published",
        "Published curves",
        "Thick: this study. Dashed: published. Colour: depth. The axis of steps is logarithmic.",
        published_section,
    ),
    SectionSpec(
        "runs",
        "Runs",
        "Every run of the grid, with the scores of its newest evaluation. Highlighted rows have "
        "not finished and are excluded from all results above.",
        runs_section,
    ),
    SectionSpec(
        "notes",
        "Methods",
        "How the results were computed, and the assumptions.",
        lambda layout: bullet_list([*layout.answer.notes, *NOTES]),
    ),
    SectionSpec(
        "environment",
        "Environment",
        "What is needed to reproduce the study: question, size, versions, code and devices. "
        "study.json has the config of every run.",
        environment_section,
    ),
)
