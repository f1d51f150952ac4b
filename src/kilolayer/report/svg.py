"""Matplotlib figures as SVG inside an HTML page, and the style of their axes."""

import io
import re
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kilolayer.render.style import GRID, INK

FONT_SIZE = 9
PIXELS_PER_INCH = 102  # a figure 11 inches wide fills the page


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches whose parts do not overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def panel_grid(count: int, columns: int, width: float, row_height: float) -> tuple[Figure, Any]:
    """A figure with `count` visible panels in rows of `columns`, and its axes `[count]`."""
    rows = -(-count // columns)
    figure = new_figure(width, row_height * rows)
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels[:count]


def style_axes(axes: Axes, title: str = "", x: str = "", y: str = "", grid: bool = True) -> None:
    """Title, axis labels and a light frame."""
    axes.set_title(title, fontsize=FONT_SIZE + 1, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=FONT_SIZE, color=INK)
    axes.set_ylabel(y, fontsize=FONT_SIZE, color=INK)
    axes.tick_params(labelsize=FONT_SIZE - 1, color=GRID, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.6)


def count_axis(axes: Axes, ticks: int) -> None:
    """At most `ticks` intervals on the x axis, with labels such as 250k."""
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))


def side_legend(axes: Axes, **options: Any) -> None:
    """A legend to the right of the axes."""
    style = {"fontsize": FONT_SIZE, "frameon": False, **options}
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), **style)


def figure_legend(figure: Figure, *handles_and_labels: Any, loc: str, **options: Any) -> None:
    """A legend outside all panels of the figure."""
    style: dict[str, Any] = {"fontsize": FONT_SIZE, "frameon": False, **options}
    figure.legend(*handles_and_labels, **style | {"loc": f"outside {loc}"})


def short_count(value: float) -> str:
    """A count for an axis: 250k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def rounded_count(value: float) -> str:
    """A count to three digits: 22.4M."""
    return short_count(float(f"{value:.3g}"))


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element.

    name: prefix of every id, so that the ids of two figures on a page differ. description: text for
    screen readers. Text in the figure stays text. Namespace declarations are removed: the HTML
    parser does not need them, and without them the page contains no address.
    """
    buffer = io.StringIO()
    # Without a salt the ids are random, and a repeated report would differ.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href=", "href=")
    # Equal images (two colour bars) get equal ids, which nothing refers to.
    text = re.sub(r'(<image [^>]*?)\bid="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    # As wide as the page allows, up to its own size; the height follows from the view box.
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", text, count=1)
    size = f"max-width: {PIXELS_PER_INCH * figure.get_figwidth():.0f}px"
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{escape(description)}" style="{size}"', 1
    )
