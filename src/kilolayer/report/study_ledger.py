"""The sections of a study's page on cost, runs, methods and environment. Each returns HTML."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from kilolayer.analysis.groups import Group, varying_names
from kilolayer.analysis.published import EPISODE, read_published
from kilolayer.analysis.run_cost import last_count, network_cost, wall_clock
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.report.ledger import manifest_entries
from kilolayer.report.page import bullets, folded, paragraph, table
from kilolayer.report.plots import rounded_count
from kilolayer.report.published_plot import published_plot
from kilolayer.report.study_layout import Layout
from kilolayer.types import UserError

# Manifest entries that describe a single run, so they differ in every manifest.
OF_ONE_RUN = ("command", "seed", "started")
NOTES = (
    "Bands and intervals on this page are 95 % intervals of the mean over seeds (Student), those "
    "of the verdicts what their sentences say. A band may leave its panel: axes show the runs.",
    "Time at goal: control steps of an evaluation episode within the success radius, deterministic "
    "policy, mean over the episodes.",
    "Runs that have not finished count nowhere but in the table of runs.",
)


def cost_section(layout: Layout) -> str:
    rows = [_cost_row(group) for group in layout.groups]
    text = (
        "Minutes are those of the machine that ran, compilation and evaluation included, and of "
        "runs that may have shared it: lowest to highest over seeds. Operations are those of the "
        "matrix products of one gradient update, counted from the program."
    )
    header = (
        "runs", "seeds", "minutes", "environment steps", "updates", "parameters",
        "floating-point operations per update", "of all updates",
    )  # fmt: skip
    return paragraph(text) + table(header, rows)


def _cost_row(group: Group) -> tuple[str, ...]:
    minutes = [wall_clock(run.events) / 60 for run in group.runs]
    steps = [last_count(run, "env_steps") for run in group.runs]
    updates = [last_count(run, "updates") for run in group.runs]
    cost = network_cost(group.runs[0])
    flops = cost.flops_per_update
    arithmetic = ("not counted", "not counted")
    if flops is not None:
        arithmetic = (rounded_count(flops), _ends(rounded_count, [flops * n for n in updates]))
    return (
        group.name,
        str(group.seeds),
        _span(minutes, ".3g"),
        _span(steps, ","),
        _span(updates, ","),
        f"{cost.parameters:,}",
        *arithmetic,
    )


def _span(values: Sequence[float], form: str) -> str:
    return _ends(lambda value: format(value, form), values)


def _ends(tell: Callable[[float], str], values: Sequence[float]) -> str:
    """Lowest and highest value as text; one value if both texts are equal."""
    return " to ".join(dict.fromkeys((tell(min(values)), tell(max(values)))))


def runs_section(layout: Layout) -> str:
    """The recorded reason of every failure, then every cell of the grid with its state."""
    study = layout.study
    names = varying_names([run.factors for run in study.runs])
    names += ["seed"] * any("seed" in run.factors for run in study.runs)
    header = (
        "run", *(name.replace("_", " ") for name in names), "state", "seconds", "success",
        "time at goal",
    )  # fmt: skip
    rows = [
        (run.name, *(str(run.factors.get(name, "")) for name in names), run.state, *_outcome(run))
        for run in study.runs
    ]
    marks = [run.state != "finished" for run in study.runs]
    reasons = [
        folded(_reason(run.name, run.failure), run.failure) for run in study.runs if run.failure
    ]
    return paragraph(run_counts(study)) + "".join(reasons) + table(header, rows, marks)


def _reason(name: str, failure: str) -> str:
    """The last line of a failed run's output: the error message follows its traceback."""
    lines = failure.strip().splitlines() or ["no reason was recorded"]
    return f"{name} failed: {lines[-1]}"


def run_counts(study: Study) -> str:
    """The number of runs in each state, as a sentence."""
    counts = Counter(run.state for run in study.runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"The grid has {len(study.runs)} runs: {states or 'it is empty'}."


def _outcome(cell: StudyRun) -> tuple[str, str, str]:
    """Seconds, success and time at goal of the newest evaluation, as far as they are known."""
    if not (cell.path / "config.json").exists():
        return "", "", ""
    run = cell.run
    scores = [run.curve(f"evaluation/{name}")[1] for name in ("success", "time_at_goal")]
    success, time = (f"{score[-1]:.3g}" if len(score) else "" for score in scores)
    return f"{wall_clock(run.events):,.0f}", success, time


def published_section(layout: Layout) -> str:
    """The study's curves over published curves of the same task."""
    file = layout.published
    if file is None:
        raise UserError(
            "no published curves were given; `kilolayer report STUDY --published FILE.json` draws "
            "the study's over them."
        )
    published = read_published(file)
    groups: dict[str, list[Group]] = {}
    for group in layout.groups:
        groups.setdefault(group.runs[0].task.name, []).append(group)
    known = {name: groups[name] for name in groups if name in published}
    if not known:
        raise UserError(
            f"{file.name} has no curve of {', '.join(groups)}; it knows {', '.join(published)}."
        )
    lengths = {name: known[name][0].runs[0].task.episode_length for name in known}
    other = [f"{name} ({steps})" for name, steps in lengths.items() if steps != EPISODE]
    notes = [
        "Both as a share of the episode; published bands are 1.96 standard errors. Published runs "
        "used another physics engine: compare kind and order, not digits."
    ]
    if other:
        notes.append(
            f"Published episodes have {EPISODE} control steps and ours differ: {', '.join(other)}."
        )
    return "".join(map(paragraph, notes)) + published_plot(known, published)


def notes_section(layout: Layout) -> str:
    return bullets([*layout.answer.notes, *NOTES])


def environment_section(layout: Layout) -> str:
    """The study's command and version, and the manifests of its runs.

    An entry that differs between runs shows every value with the number of its runs."""
    study = layout.study
    found = json.loads((study.path / "study.json").read_text(encoding="utf-8"))
    rows = [
        (f"study {name}", str(found[name]))
        for name in ("question", "size", "command", "version", "source")
        if name in found
    ]
    manifests = [_manifest(run) for run in study.runs if (run.path / "manifest.json").is_file()]
    for name in dict.fromkeys(name for manifest in manifests for name in manifest):
        counts = Counter(manifest.get(name, "none") for manifest in manifests)
        if len(counts) == 1:
            rows.append((name, next(iter(counts))))
        elif name == "started":
            rows.append((name, f"{min(counts)} to {max(counts)}"))
        elif name not in OF_ONE_RUN:
            of = ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())
            rows.append((name, of))
    return table(("what", "value"), rows)


def _manifest(run: StudyRun) -> dict[str, str]:
    return dict(manifest_entries(run.path / "manifest.json"))


def compute_hours(study: Study) -> float:
    """Hours of all runs together."""
    present = [run for run in study.runs if (run.path / "config.json").exists()]
    return float(np.sum([wall_clock(run.run.events) for run in present]) / 3600)
