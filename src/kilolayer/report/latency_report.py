"""The report on latency and score of policies, as one HTML file."""

import itertools
from collections.abc import Callable
from pathlib import Path

from kilolayer.deploy.latency import Latencies, Latency
from kilolayer.render.style import INK, LINES, MARKERS, VERMILLION
from kilolayer.report.page import Section, bullet_list, page, paragraph, table
from kilolayer.report.svg import FONT_SIZE, figure_legend, panel_grid, style_axes, to_svg
from kilolayer.runtime.files import write_atomically

# The name of each column, its text for a row, and whether it is printed in a terminal.
COLUMNS: tuple[tuple[str, Callable[[Latency], str], bool], ...] = (
    ("policy", lambda row: row.policy, True),
    ("method", lambda row: row.method, False),
    ("runtime", lambda row: row.runtime, True),
    ("depth", lambda row: str(row.depth), True),
    ("width", lambda row: str(row.width), False),
    ("blocks used", lambda row: f"{row.blocks_used:.3g} of {row.blocks}", True),
    ("MFLOP", lambda row: f"{row.operations / 1e6:.3g}", True),
    ("batch 1, ms", lambda row: f"{1e3 * row.single.median:.3g}", True),
    ("99th %, ms", lambda row: f"{1e3 * row.single.p99:.3g}", True),
    ("batch {batch}, ms", lambda row: f"{1e3 * row.batched.median:.3g}", True),
    ("99th %, ms", lambda row: f"{1e3 * row.batched.p99:.3g}", False),
    ("MFLOP per action", lambda row: f"{row.batch_operations / 1e6:.3g}", False),
    ("time at goal", lambda row: "" if row.score is None else f"{row.score:.1f}", True),
)


def latency_table(latencies: Latencies, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one for each policy and runtime, numbered as in the plot.

    brief: only the columns for a terminal.
    """
    columns = [(name, text) for name, text, in_terminal in COLUMNS if in_terminal or not brief]
    header = ["", *(name.format(batch=latencies.batch) for name, _ in columns), "Pareto front"]
    rows = [
        [str(number), *(text(row) for _, text in columns), "yes" if best else ""]
        for number, (row, best) in enumerate(zip(latencies.rows, latencies.front, strict=True), 1)
    ]
    return header, rows


def write_latency(latencies: Latencies, target: Path) -> Path:
    """Write the page and, beside it under the same name, the JSON of all figures; raises UserError
    if they cannot be written."""
    sections = [
        Section(
            "figures",
            "Latency",
            "Milliseconds per call at batch 1 and per batch, with numpy input and output: median "
            "and 99th percentile. MFLOP: millions of floating-point operations of the matrix "
            "products per action, at batch 1 and in the batch. Time at goal: control steps.",
            table(*latency_table(latencies), changed=latencies.front),
        ),
        Section(
            "notes",
            "Methods",
            "How latencies and scores were measured.",
            bullet_list(notes(latencies)),
        ),
    ]
    if latencies.episodes:
        plot = Section(
            "plot",
            "Score against latency",
            "Upper left is better. For a policy on the line, the Pareto front, no other policy has "
            "both lower latency and a higher score. Numbers are rows of the table.",
            latency_plot(latencies),
        )
        sections.insert(0, plot)
    top = paragraph(
        f"{len(latencies.rows)} combinations of policy and runtime. {latencies.machine}"
    )
    write_atomically(target.with_suffix(".json"), latencies.to_json())
    write_atomically(target, page(f"{latencies.task}: latency of policies", top, sections))
    return target


def notes(latencies: Latencies) -> list[str]:
    """How latencies and scores were measured, a sentence each."""
    return [
        f"{latencies.repeats} calls at batch 1, each with a different observation from the "
        "policy's own episodes. All combinations were timed alternately in one process.",
        "onnx: one thread, with all graph optimisations of ONNX Runtime. jax and early-exit: XLA "
        "chooses the number of threads.",
        "early-exit stops at the first block after which the action no longer changes. A batch "
        "stops only when all its actions have converged, so it saves less.",
        "Rows with a planner: the median is the time of an action plus its share of a plan. The "
        "99th percentile is the time of an action plus a whole plan, as if planning blocked the "
        "action. In the control loop a separate thread plans.",
        f"Scores are those of {latencies.episodes} episodes with the same starts and goals for "
        "all. The score of onnx is that of jax, since their actions differ only by rounding."
        if latencies.episodes
        else "No episodes were played, so there are no scores and no Pareto front.",
    ]


def latency_plot(latencies: Latencies) -> str:
    """Score against the median latency at batch 1. Colour: the method; marker: the runtime."""
    figure, (axes,) = panel_grid(1, 1, 11, 5)
    methods = list(dict.fromkeys(row.method for row in latencies.rows))
    runtimes = list(dict.fromkeys(row.runtime for row in latencies.rows))
    points = [(1e3 * row.single.median, row.score or 0.0) for row in latencies.rows]
    labelled = set()
    for number, (row, point) in enumerate(zip(latencies.rows, points, strict=True), 1):
        kind = (row.method, row.runtime)
        axes.plot(
            *point,
            linestyle="",
            marker=MARKERS[runtimes.index(row.runtime) % len(MARKERS)],
            color=LINES[methods.index(row.method) % len(LINES)],
            label=None if kind in labelled else f"{row.method}, {row.runtime}",
        )
        labelled.add(kind)
        axes.annotate(
            str(number),
            point,
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=FONT_SIZE - 1,
            color=INK,
        )
    front = sorted(itertools.compress(points, latencies.front))
    axes.plot(*zip(*front, strict=True), color=VERMILLION, linewidth=1, label="Pareto front")
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.15)
    style_axes(axes, "", "median latency at batch 1, ms", "time at goal, control steps")
    figure_legend(figure, loc="right upper")
    return to_svg(figure, "latency", "Score of each policy against its latency")
