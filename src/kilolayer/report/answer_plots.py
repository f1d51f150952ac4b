"""The plots and tables of a study's answer, as HTML."""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import EVIDENCE, Verdict
from kilolayer.render.style import INK, look
from kilolayer.report.page import heading, table, verdict_list
from kilolayer.report.plots import rounded_count
from kilolayer.report.svg import FONT_SIZE, dress, new_figure, to_svg

MOST_TICKS = 9  # of a logarithmic axis with a tick at every value
NAME_WIDTH = 22  # characters per line of a bar's label
BAND = 0.15  # opacity of an interval


def answer_verdicts(answer: Answer) -> str:
    """The verdicts with their strength, the most important first."""
    return verdict_list([_worded(verdict) for verdict in answer.verdicts])


def _worded(verdict: Verdict) -> tuple[str, str, str]:
    """Style class, strength in words, sentence. Only grades of evidence have their own class."""
    if verdict.strength in EVIDENCE:
        return verdict.strength, f"{verdict.strength} evidence", verdict.sentence
    return "open", verdict.strength, verdict.sentence


def answer_body(answer: Answer) -> str:
    """All plots, then all tables."""
    plots = [draw_plot(plot, f"answer-{index}") for index, plot in enumerate(answer.plots)]
    return "".join(plots) + "".join(map(draw_table, answer.tables))


def draw_table(found: Table) -> str:
    return heading(found.title) + table(found.columns, found.rows)


def draw_plot(plot: Plot, name: str) -> str:
    """A plot as SVG. name: unique on the page."""
    figure = new_figure(10, 3.9)
    axes = figure.subplots()
    draw = {"lines": _line, "points": _points, "bars": _bars}[plot.kind]
    for index, series in enumerate(plot.series):
        draw(axes, series, index, len(plot.series))
    dress(axes, plot.title, plot.x_label, plot.y_label)
    if plot.kind == "bars":
        names = [textwrap.fill(name, NAME_WIDTH) for name in plot.names]
        axes.set_xticks(range(len(names)), names)
        axes.axhline(0, color=INK, linewidth=0.6)
    else:
        _scale(axes, plot)
        _frame(axes, plot)
    _mark(axes, plot)
    if plot.series:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            frameon=False,
            fontsize=FONT_SIZE,
            handlelength=3.5,
        )
    return to_svg(figure, name, plot.title)


def _line(axes: Axes, series: Series, index: int, count: int) -> None:
    style = look(index)
    few = len(series.x) <= 40
    axes.plot(
        series.x,
        series.y,
        color=style.colour,
        linestyle=style.dash,
        marker=style.marker if few else "",
        markersize=5,
        label=series.name,
    )
    if series.low is not None and series.high is not None:
        low, high = np.array(series.low, float), np.array(series.high, float)
        axes.fill_between(series.x, low, high, color=style.colour, alpha=BAND, linewidth=0)
        if few:
            axes.errorbar(series.x, series.y, _errors(series), **_whiskers(style.colour))


def _points(axes: Axes, series: Series, index: int, count: int) -> None:
    style = look(index)
    axes.plot(
        series.x,
        series.y,
        color=style.colour,
        linestyle="",
        marker=style.marker,
        markersize=5,
        label=series.name,
    )
    if series.low is not None:
        axes.errorbar(series.x, series.y, _errors(series), **_whiskers(style.colour))


def _bars(axes: Axes, series: Series, index: int, count: int) -> None:
    width = 0.8 / count
    places = np.array(series.x) + (index - (count - 1) / 2) * width
    hatch = ("", "//", "..", "xx")[index % 4]
    colour = look(index).colour
    axes.bar(
        places, series.y, width, color=colour, hatch=hatch, edgecolor="white", label=series.name
    )
    if series.low is not None:
        axes.errorbar(places, series.y, _errors(series), **_whiskers(INK))


def _errors(series: Series) -> np.ndarray:
    """Lengths of the whiskers below and above, `[2, points]`."""
    low, value, high = (np.asarray(part, float) for part in (series.low, series.y, series.high))
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value]), posinf=0))


def _whiskers(colour: str) -> dict[str, Any]:
    return {"fmt": "none", "ecolor": colour, "elinewidth": 1, "capsize": 3}


def _scale(axes: Axes, plot: Plot) -> None:
    if plot.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
    values = sorted({x for series in plot.series for x in series.x})
    if plot.log_x and len(values) <= MOST_TICKS and all(float(x).is_integer() for x in values):
        axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rounded_count(value)))


def _frame(axes: Axes, plot: Plot) -> None:
    """Fit the axis to all values; wide intervals may extend it by the values' span on each side."""
    values = _finite(y for series in plot.series for y in series.y)
    if not len(values):
        return
    ends = _finite(
        end for series in plot.series for end in (*(series.low or ()), *(series.high or ()))
    )
    low, high = values.min(), values.max()
    span = max(high - low, 1e-6)
    low = max(low - span, min([low, *ends]))
    high = min(high + span, max([high, *ends]))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9)


def _finite(values: Iterable[float]) -> np.ndarray:
    found = np.array(list(values), float)
    return found[np.isfinite(found)]


def _mark(axes: Axes, plot: Plot) -> None:
    """Vertical lines with their text; each text is lower than the last, so that none overlap."""
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
