"""Plot of a pruning: score by number of blocks kept, and the influence of each block."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kilolayer.deploy.smaller.prune import Curve
from kilolayer.render.style import BLUE, GREY, INK, VERMILLION, line_style
from kilolayer.report.svg import FONT_SIZE, new_figure, style_axes
from kilolayer.runtime.files import guard_disk


def write_plot(curve: Curve, path: Path) -> Path:
    """Write a PNG and return its path; raises UserError if it cannot be written."""
    figure = new_figure(10, 3.9)
    scores, blocks = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_scores(scores, curve)
    _draw_influence(blocks, curve)
    with guard_disk(path):
        figure.savefig(path, dpi=110)
    return path


def _draw_scores(axes: Axes, curve: Curve) -> None:
    whole = curve.points[0]
    lines = dict.fromkeys((point.order, point.healed) for point in curve.points)
    for index, (order, healed) in enumerate(lines):
        points = [each for each in curve.points if (each.order, each.healed) == (order, healed)]
        style = line_style(index)
        axes.plot(
            [each.blocks for each in points],
            [each.score for each in points],
            color=style.colour,
            linestyle=style.dash,
            marker=style.marker,
            markersize=4,
            label=f"{order}, healed" if healed else order,
        )
    if curve.wish.target_latency is None:
        level = curve.wish.keep_score * whole.score
        axes.axhline(level, color=GREY, linewidth=0.8)
        axes.annotate(
            f"{curve.wish.keep_score:.0%} of the unpruned score",
            (whole.blocks, level),
            ha="left",
            va="bottom",
            fontsize=FONT_SIZE - 1,
            color=INK,
        )
    chosen = curve.points[curve.chosen]
    axes.plot(
        chosen.blocks,
        chosen.score,
        linestyle="",
        marker="o",
        markersize=12,
        fillstyle="none",
        color=INK,
        label="selected",
    )
    axes.set_ylim(0, None)
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=FONT_SIZE - 1, frameon=False, loc="lower left")
    style_axes(axes, f"{curve.episodes} episodes", "blocks kept", "time at goal (control steps)")


def _draw_influence(axes: Axes, curve: Curve) -> None:
    kept = set(curve.points[curve.chosen].kept)
    values = curve.influence["divergence"]
    numbers = range(len(values))
    colours = [BLUE if number in kept else VERMILLION for number in numbers]
    axes.bar(numbers, values, color=colours)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(
        axes, "Influence of each block (blue: kept)", "block", "KL divergence without it (nats)"
    )
