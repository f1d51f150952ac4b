"""Latency and score of policies, as one HTML file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from kilolayer.deploy.latency import Latencies, Latency
from kilolayer.render.style import INK, LINES, MARKERS, VERMILLION
from kilolayer.report.page import Section, bullets, page, paragraph, table
from kilolayer.report.svg import FONT_SIZE, dress, new_figure, to_svg
from kilolayer.runtime.files import write_atomically

HEADER = (
    "",
    "policy",
    "made by",
    "runtime",
    "depth",
    "width",
    "blocks used",
    "MFLOP",
    "batch 1, ms",
    "99th %, ms",
    "batch {batch}, ms",
    "99th %, ms",
    "MFLOP each",
    "time at goal",
    "front",
)


# The columns that are printed in a terminal.
BRIEF = (0, 1, 3, 4, 6, 7, 8, 9, 10, 13, 14)


def brief(cells: Sequence[str]) -> list[str]:
    """The most important columns of `header` or of a row."""
    return [cells[index] for index in BRIEF]


def header(found: Latencies) -> list[str]:
    """The names of the columns of `rows`."""
    return [name.format(batch=found.batch) for name in HEADER]


def rows(found: Latencies) -> list[list[str]]:
    """A row of text for each policy and runtime, numbered as in the plot."""
    return [
        [
            str(number),
            row.policy,
            row.method,
            row.runtime,
            str(row.depth),
            str(row.width),
            f"{row.blocks_used:.3g} of {row.blocks}",
            f"{row.operations / 1e6:.3g}",
            *(f"{1e3 * seconds:.3g}" for seconds in _seconds(row)),
            f"{row.batch_operations / 1e6:.3g}",
            "" if row.score is None else f"{row.score:.1f}",
            "yes" if best else "",
        ]
        for number, (row, best) in enumerate(zip(found.rows, found.front, strict=True), 1)
    ]


def _seconds(row: Latency) -> tuple[float, ...]:
    return row.single.median, row.single.p99, row.batched.median, row.batched.p99


def write_latency(found: Latencies, target: Path) -> Path:
    """Write the page and, beside it under the same name, the JSON of all figures.

    Raises UserError if they cannot be written.
    """
    sections = [
        Section(
            "figures",
            "Figures",
            "Milliseconds of a call at batch 1 and of a whole batch, numpy in and numpy out: "
            "median and 99th percentile. MFLOP: millions of floating-point operations of an "
            "action's matrix products, at batch 1 and in the batch. Time at goal: control steps.",
            table(header(found), rows(found), changed=found.front),
        ),
        Section("notes", "Methods", "How the figures were made.", bullets(notes(found))),
    ]
    if found.episodes:
        plot = Section(
            "plot",
            "Score against latency",
            "Up and to the left is better. No policy is at once faster and better than one on the "
            "line, the Pareto front. Numbers are the rows of the table.",
            latency_plot(found),
        )
        sections.insert(0, plot)
    top = paragraph(f"{len(found.rows)} ways to act. {found.machine}")
    write_atomically(target.with_suffix(".json"), found.to_json())
    write_atomically(target, page(f"{found.task}: latency of policies", top, sections))
    return target


def notes(found: Latencies) -> list[str]:
    """How the figures were made, a sentence each."""
    return [
        f"{found.repeats} calls at batch 1, each with another observation that the policy met in "
        "its task; the ways were timed in turn in one process.",
        "onnx runs on one thread with all graph optimisations of ONNX Runtime; jax and early-exit "
        "use as many threads as XLA takes.",
        "early-exit stops at the first block after which the action has settled. In a batch all go "
        "on until the last has, so a batch saves less.",
        "A planner's row is the policy led by it: at the median an action and its share of a "
        "plan, at the 99th percentile an action and a whole plan, as if it were made between two "
        "actions; in the control loop a thread of its own makes it.",
        f"Scores are of {found.episodes} episodes, the same starts and goals for all; onnx has "
        "that of jax, from which its actions differ by rounding alone."
        if found.episodes
        else "No episodes were played, so there are no scores and no front.",
    ]


def latency_plot(found: Latencies) -> str:
    """Score against the median latency at batch 1. Colour: the method; marker: the runtime."""
    figure = new_figure(11, 5)
    axes = figure.subplots()
    methods = _in_order(row.method for row in found.rows)
    runtimes = _in_order(row.runtime for row in found.rows)
    seen = set()
    for number, row in enumerate(found.rows, 1):
        kind = (row.method, row.runtime)
        axes.plot(
            1e3 * row.single.median,
            row.score or 0.0,
            linestyle="",
            marker=MARKERS[runtimes.index(row.runtime) % len(MARKERS)],
            color=LINES[methods.index(row.method) % len(LINES)],
            label=None if kind in seen else f"{row.method}, {row.runtime}",
        )
        seen.add(kind)
        axes.annotate(
            str(number),
            (1e3 * row.single.median, row.score or 0.0),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=FONT_SIZE - 1,
            color=INK,
        )
    front = sorted(
        (1e3 * row.single.median, row.score or 0.0)
        for row, best in zip(found.rows, found.front, strict=True)
        if best
    )
    axes.plot(*zip(*front, strict=True), color=VERMILLION, linewidth=1, label="Pareto front")
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.15)
    dress(axes, "", "median latency at batch 1, ms", "time at goal, control steps")
    figure.legend(loc="outside right upper", fontsize=FONT_SIZE, frameon=False)
    return to_svg(figure, "latency", "Score of each policy over its latency")


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
