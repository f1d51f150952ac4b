"""The picture beside the page of figures."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Figures, Row
from benchmarks.page import Measured
from kilolayer.render.style import BLUE, ORANGE, SERIES
from kilolayer.report.svg import FONT_SIZE, new_figure, style_axes

SIDES = {"ours": ("kilolayer", BLUE), "yardstick": ("straightforward", ORANGE)}


def plot(found: Measured) -> Figure:
    """Six panels: three against depth, energies, how many times faster, the parts of an update."""
    figure = new_figure(12, 6.4)
    axes = figure.subplots(2, 3)
    sizes = f"width {found.narrow}, batch {found.narrow}"
    curves(axes[0, 0], found.sweep, lambda figures: figures.compile_seconds)
    style_axes(axes[0, 0], "Trace and compile", "depth", "s")
    curves(axes[0, 1], found.sweep, lambda figures: 1e3 * figures.each)
    style_axes(axes[0, 1], f"Update, {sizes}", "depth", "ms")
    curves(axes[0, 2], found.sweep, lambda figures: figures.peak_bytes / 1e6)
    style_axes(axes[0, 2], f"Memory of an update, {sizes}", "depth", "MB")
    curves(axes[1, 0], found.energies, lambda figures: 1e3 * figures.each)
    style_axes(axes[1, 0], "Pairwise energies, both ways", "batch", "ms")
    speeds(axes[1, 1], found)
    style_axes(axes[1, 1], "Against the straightforward formulation", "times faster")
    parts(axes[1, 2], found)
    title = f"Parts of an update: depth {found.headline.size}, width {found.width}"
    style_axes(axes[1, 2], title, "share of its time")
    axes[0, 0].legend(fontsize=FONT_SIZE - 1, frameon=False)
    return figure


def curves(axes: Axes, rows: Sequence[Row], read: Callable[[Figures], float]) -> None:
    """Both sides over the rows' sizes."""
    for side, (label, colour) in SIDES.items():
        points = [(row.size, getattr(row, side)) for row in rows]
        sizes, values = zip(*((x, read(f)) for x, f in points if f is not None), strict=True)
        axes.loglog(sizes, values, marker="o", markersize=4, color=colour, label=label)
    axes.set_xticks([row.size for row in rows], [str(row.size) for row in rows])
    axes.minorticks_off()


def speeds(axes: Axes, found: Measured) -> None:
    rows = (found.headline, found.energies[-1], found.hindsight[0], *found.collection)
    bars = [(f"{row.name} ({row.size})", row.speed) for row in rows if row.speed is not None]
    names, values = zip(*reversed(bars), strict=True)
    drawn = axes.barh(names, values, color=BLUE)
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=FONT_SIZE - 1)
    axes.set_xscale("log")
    axes.axvline(1, color=ORANGE)
    axes.margins(x=0.2)


def parts(axes: Axes, found: Measured) -> None:
    profile = found.profile
    colours = iter(SERIES)
    for row, cut in enumerate((profile.by_kind, profile.by_phase)):
        left = 0.0
        for name, seconds in cut.items():
            colour = next(colours)
            share = max(0.0, seconds / profile.update)
            axes.barh(row, share, left=left, color=colour, label=name)
            if share > 0.04:
                axes.text(left + share / 2, row, f"{100 * share:.0f} %", ha="center", va="center")
            left += share
    axes.set_yticks([0, 1], ["by kind", "by phase"])
    axes.legend(
        fontsize=FONT_SIZE - 2,
        frameon=False,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
    )
