"""The plots and tables of a study's answer, as HTML."""

import textwrap
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from kilolayer.analysis.answer import Answer, Plot, Series
from kilolayer.analysis.claims import EVIDENCE_GRADES
from kilolayer.errors import UserError
from kilolayer.render.style import INK, line_style
from kilolayer.report.page import heading, table, verdict_list
from kilolayer.report.svg import (
    FONT_SIZE,
    panel_grid,
    rounded_count,
    side_legend,
    style_axes,
    to_svg,
)

MOST_TICKS = 9  # of a logarithmic axis with a tick at every value
NAME_WIDTH = 22  # characters per line of a bar's label
BAND_OPACITY = 0.15


def answer_verdicts(answer: Answer) -> str:
    """The verdicts with their strengths, the most important first."""
    items = []
    for verdict in answer.verdicts:
        kind, strength = "open", verdict.strength
        if strength in EVIDENCE_GRADES:
            kind, strength = strength, f"{strength} evidence"
        items.append((kind, strength, verdict.sentence))
    return verdict_list(items)


def answer_body(answer: Answer) -> str:
    """All plots, then all tables; raises UserError if there is none of either."""
    if not answer.plots and not answer.tables:
        raise UserError(
            "the analysis has no plots and no tables, since too few runs have finished."
        )
    plots = [draw_plot(plot, f"answer-{index}") for index, plot in enumerate(answer.plots)]
    return "".join(plots) + "".join(
        heading(part.title) + table(part.columns, part.rows) for part in answer.tables
    )


def draw_plot(plot: Plot, name: str) -> str:
    """A plot as SVG. name: unique on the page."""
    figure, (axes,) = panel_grid(1, 1, 10, 3.9)
    for index, series in enumerate(plot.series):
        if plot.kind == "bars":
            _draw_bars(axes, series, index, len(plot.series))
        else:
            _draw_line(axes, series, index, connected=plot.kind == "lines")
    style_axes(axes, plot.title, plot.x_label, plot.y_label)
    if plot.kind == "bars":
        names = [textwrap.fill(name, NAME_WIDTH) for name in plot.names]
        axes.set_xticks(range(len(names)), names)
        axes.axhline(0, color=INK, linewidth=0.6)
    else:
        _scale_x(axes, plot)
        _limit_y(axes, plot)
    _draw_marks(axes, plot)
    if plot.series:
        side_legend(axes, handlelength=3.5)
    return to_svg(figure, name, plot.title)


def _draw_line(axes: Axes, series: Series, index: int, connected: bool) -> None:
    style = line_style(index)
    has_markers = not connected or len(series.x) <= 40
    axes.plot(
        series.x,
        series.y,
        color=style.colour,
        linestyle=style.dash if connected else "",
        marker=style.marker if has_markers else "",
        markersize=5,
        label=series.name,
    )
    if connected and series.low is not None and series.high is not None:
        low, high = np.array(series.low, float), np.array(series.high, float)
        axes.fill_between(series.x, low, high, color=style.colour, alpha=BAND_OPACITY, linewidth=0)
    if has_markers:
        _draw_whiskers(axes, np.array(series.x), series, style.colour)


def _draw_bars(axes: Axes, series: Series, index: int, count: int) -> None:
    width = 0.8 / count
    positions = np.array(series.x) + (index - (count - 1) / 2) * width
    hatch = ("", "//", "..", "xx")[index % 4]
    colour = line_style(index).colour
    axes.bar(
        positions, series.y, width, color=colour, hatch=hatch, edgecolor="white", label=series.name
    )
    _draw_whiskers(axes, positions, series, INK)


def _draw_whiskers(axes: Axes, x: np.ndarray, series: Series, colour: str) -> None:
    if series.low is None or series.high is None:
        return
    low, value, high = (np.asarray(part, float) for part in (series.low, series.y, series.high))
    lengths = np.maximum(0, np.nan_to_num(np.stack([value - low, high - value]), posinf=0))
    axes.errorbar(x, series.y, lengths, fmt="none", ecolor=colour, elinewidth=1, capsize=3)


def _scale_x(axes: Axes, plot: Plot) -> None:
    if plot.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    values = sorted({x for series in plot.series for x in series.x})
    if plot.log_x and len(values) <= MOST_TICKS and all(float(x).is_integer() for x in values):
        axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(lambda value, _: rounded_count(value))


def _limit_y(axes: Axes, plot: Plot) -> None:
    """Limits from all values; intervals extend them by at most the values' span on each side."""
    values = _finite(y for series in plot.series for y in series.y)
    if not len(values):
        return
    bounds = _finite(
        end for series in plot.series for end in (*(series.low or ()), *(series.high or ()))
    )
    low, high = values.min(), values.max()
    span = max(high - low, 1e-6)
    low = max(low - span, min([low, *bounds]))
    high = min(high + span, max([high, *bounds]))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9)


def _finite(values: Iterable[float]) -> np.ndarray:
    array = np.array(list(values), float)
    return array[np.isfinite(array)]


def _draw_marks(axes: Axes, plot: Plot) -> None:
    """Vertical lines with their text; each text is lower than the previous, so that none
    overlap."""
    for index, (x, text) in enumerate(plot.marks):
        axes.axvline(x, color=INK, linestyle=(0, (2, 2)), linewidth=1)
        axes.annotate(
            text,
            (x, 0.98 - 0.08 * (index % 6)),
            xycoords=axes.get_xaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="top",
            fontsize=FONT_SIZE,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
