"""Plots for the report of a grounding or an action module, each as inline SVG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from kilolayer.language.base import PICTURE_SIZE, Marker
from kilolayer.language.board import board_of
from kilolayer.language.evidence import Evidence, Failure, RouterUse
from kilolayer.language.scenes import draw_pictures, to_pixels
from kilolayer.render.style import BLUE, FAILURE, GREY, INK, LINES, MARKERS, PAPER, SUCCESS
from kilolayer.report.svg import FONT_SIZE, new_figure, panel_grid, side_legend, style_axes, to_svg
from kilolayer.tasks.base import Task

SPREAD = 0.6  # width of one split's points, divided by the distance between two splits
PICTURE_SCALE = 2  # pixels of a failure's picture per pixel that the encoder saw


def success_plot(evidence: Evidence, splits: Sequence[str]) -> str:
    """Success on every split with its interval, one point per scored agent."""
    figure, (axes,) = panel_grid(1, 1, 11, 3.9)
    actors = evidence.actors
    for index, actor in enumerate(actors):
        offset = SPREAD * (index / max(1, len(actors) - 1) - 0.5)
        shares = [evidence.score(actor, split).share for split in splits]
        value, low, high = np.array([(each.value, each.low, each.high) for each in shares]).T
        axes.errorbar(
            np.arange(len(splits)) + offset,
            value,
            yerr=np.maximum(0, [value - low, high - value]),
            linestyle="",
            marker=MARKERS[index % len(MARKERS)],
            markersize=8 if index == 0 else 5,
            color=LINES[index % len(LINES)],
            capsize=3,
            label=actor,
        )
    axes.set_xticks(range(len(splits)), [split.replace("-", " ") for split in splits])
    axes.set_ylim(-0.03, 1.03)
    style_axes(axes, "", "", "success, share of episodes")
    side_legend(axes)
    return to_svg(figure, "success", "Success of every scored agent by split")


def failure_pictures(task: Task, failures: Sequence[Failure]) -> str:
    """The encoder's pictures, shaded by low attention, with the intended and the actual goal."""
    figure, panels = panel_grid(len(failures), 3, 11, 3.9)
    for number, (axes, failure) in enumerate(zip(panels, failures, strict=True), 1):
        _draw_failure(axes, task, failure, number)
    return to_svg(figure, "failures", "Pictures of instructions that led to another goal")


def _draw_failure(axes: Axes, task: Task, failure: Failure, number: int) -> None:
    size = PICTURE_SCALE * PICTURE_SIZE
    markers = tuple(Marker(colour, (x, y)) for colour, x, y in failure.markers)
    extent = (0, size, size, 0)
    axes.imshow(draw_pictures(task, [markers], size)[0], extent=extent)
    if failure.attention is not None:
        attention = np.array(failure.attention)
        # Grey with an opacity that rises as attention falls.
        shade = np.zeros((*attention.shape, 4))
        shade[..., 3] = 0.7 * (1 - attention / attention.max())
        axes.imshow(shade, extent=extent, interpolation="nearest")
    board = board_of(task)
    radius = task.goal.radius * size / board.side
    for goal, colour, dash in ((failure.goal, SUCCESS, "-"), (failure.place, FAILURE, "--")):
        place = to_pixels(board, goal[:2], size)
        for width, line in ((4.5, PAPER), (2.2, colour)):
            ring = Circle(
                place, radius, fill=False, linewidth=width, edgecolor=line, linestyle=dash
            )
            axes.add_patch(ring)
    axes.set_axis_off()
    axes.set_xlim(0, size)
    axes.set_ylim(size, 0)
    axes.set_title(f"{number}  {failure.split}", fontsize=FONT_SIZE + 1, color=INK, loc="left")


def router_plot(routers: Sequence[RouterUse], name: str) -> str:
    """Mean gate of every expert, a panel for each layer, a row for each group."""
    layers = len(routers[0].use)
    figure = new_figure(11, 0.9 + 0.34 * len(routers))
    panels = np.ravel(figure.subplots(1, layers, squeeze=False, sharey=True))
    largest = max(max(row) for router in routers for row in router.use)
    for layer, axes in enumerate(panels):
        use = np.array([router.use[layer] for router in routers])
        axes.imshow(use, cmap="Blues", vmin=0, vmax=largest, aspect="auto")
        for (row, expert), value in np.ndenumerate(use):
            colour = PAPER if value > 0.6 * largest else INK
            axes.text(
                expert, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour
            )
        axes.set_xticks(range(use.shape[1]), [str(expert + 1) for expert in range(use.shape[1])])
        axes.set_yticks(range(len(routers)), [router.of for router in routers])
        style_axes(axes, f"layer {layer + 1}", "expert", "", grid=False)
    return to_svg(figure, f"routers-{name}", "Mean gate of every expert")


def latency_plot(evidence: Evidence) -> str:
    """Median of every part as a point, a line to the 99th percentile, logarithmic axis."""
    parts = list(evidence.latency)
    figure, (axes,) = panel_grid(1, 1, 11, 0.9 + 0.32 * len(parts))
    timings = [(timing.median, timing.p99) for timing in evidence.latency.values()]
    median, p99 = 1e3 * np.array(timings).T
    rows = np.arange(len(parts))
    axes.hlines(rows, median, p99, color=GREY, linewidth=2)
    axes.plot(median, rows, "o", color=BLUE)
    axes.set_yticks(rows, parts)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.08, y=0.12)
    style_axes(axes, "", "ms at batch 1: median (point) to 99th percentile", "")
    return to_svg(figure, "latency", "Milliseconds of every part")
