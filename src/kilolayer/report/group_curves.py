"""Learning curves of groups of runs, also beside published curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from scipy import stats

from kilolayer.analysis.groups import Group, progress_unit, range_text, score_bounds, score_labels
from kilolayer.analysis.published import EPISODE_LENGTH, PublishedCurve
from kilolayer.analysis.statistics import CONFIDENCE
from kilolayer.render.style import INK, LineStyle, line_style
from kilolayer.report.svg import (
    FONT_SIZE,
    count_axis,
    figure_legend,
    new_figure,
    panel_grid,
    short_count,
    side_legend,
    style_axes,
    to_svg,
)

ROW_HEIGHT, LEGEND_HEIGHT = 2.6, 0.35  # inches
LEGEND_COLUMNS = 5
NORMAL_QUANTILE = 1.96  # half-width of a 95 % interval in standard errors
CURVES_CAPTION = (
    "Evaluations with the deterministic policy. Thin lines: single seeds. Thick lines: their mean. "
    "Band: 95 % interval of the mean, which may extend beyond the panel."
)


def group_curves(rows: Mapping[str, Sequence[Group]], names: Mapping[str, str]) -> str:
    """A row of panels for each entry of `rows`, a line for each of its groups.

    names: the label of each line, by the name of its group. Lines with the same label share a
    style.
    """
    line_names = list(dict.fromkeys(names.values()))
    styles = {name: line_style(index) for index, name in enumerate(line_names)}
    legend_rows = -(-len(line_names) // LEGEND_COLUMNS)
    figure = new_figure(11, ROW_HEIGHT * len(rows) + LEGEND_HEIGHT * legend_rows)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for line, (title, groups) in zip(grid, rows.items(), strict=True):
        labels, unit = score_labels(groups[0].task), progress_unit(groups)
        for axes, (metric, label) in zip(line, labels.items(), strict=True):
            for group in groups:
                _draw(axes, group, metric, styles[names[group.name]])
            style_axes(axes, title if axes is line[0] else "", unit, label)
            _frame(axes, metric)
            count_axis(axes, 5)
    handles = [
        Line2D(
            [], [], color=style.colour, linestyle=style.dash, linewidth=1.9,
            label=f"{name} ({_seeds(rows, names, name)})",
        )
        for name, style in styles.items()
    ]  # fmt: skip
    figure_legend(figure, handles=handles, loc="upper left", ncols=LEGEND_COLUMNS, handlelength=3.5)
    return to_svg(figure, "group-curves", "Learning curves by group")


def _draw(axes: Axes, group: Group, metric: str, style: LineStyle) -> None:
    for run in group.runs:
        axes.plot(*run.curve(metric), color=style.colour, linewidth=0.6, alpha=0.6)
    steps, values = group.curve(metric)
    if not len(steps):
        return
    bounds = score_bounds(group.task, metric)
    draw_mean(axes, steps, values, bounds, style.colour, linestyle=style.dash, linewidth=1.9)


def _frame(axes: Axes, metric: str) -> None:
    """Limits from the seeds' lines, since the interval of two seeds is much wider."""
    if metric == "evaluation/success":
        axes.set_ylim(-0.03, 1.03)
        return
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    if len(values):
        margin = 0.05 * max(float(np.ptp(values)), 1e-6)
        axes.set_ylim(values.min() - margin, values.max() + margin)


def draw_mean(
    axes: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    bounds: tuple[float, float],
    colour: str,
    **line: Any,
) -> None:
    """The mean of `values [seeds, evaluations]`, with Student's 95 % interval of several seeds."""
    mean, seeds = values.mean(0), len(values)
    axes.plot(steps, mean, color=colour, **line)
    if seeds > 1:
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
        margin = quantile * values.std(0, ddof=1) / np.sqrt(seeds)
        low, high = np.clip([mean - margin, mean + margin], *bounds)
        axes.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)


def _seeds(rows: Mapping[str, Sequence[Group]], names: Mapping[str, str], name: str) -> str:
    counts = [g.seeds for groups in rows.values() for g in groups if names[g.name] == name]
    return f"{range_text(counts, str)} seed{'s' * (max(counts) > 1)}"


def published_plot(
    groups: Mapping[str, Sequence[Group]], published: Mapping[str, Mapping[int, PublishedCurve]]
) -> str:
    """A panel per task: published curves thin and dashed, the study's thick; one colour per
    depth."""
    figure, panels = panel_grid(len(groups), min(2, len(groups)), 11, 3.4)
    for axes, (task, own_groups) in zip(panels, groups.items(), strict=True):
        curves = published[task]
        depths = sorted({*curves, *(group.runs[0].config.network.depth for group in own_groups)})
        colours = {depth: line_style(index).colour for index, depth in enumerate(depths)}
        for depth, curve in curves.items():
            _draw_published(axes, curve, colours[depth])
        for group in own_groups:
            steps, values = group.curve("evaluation/time_at_goal")
            colour = colours[group.runs[0].config.network.depth]
            if len(steps):
                shares = values / group.task.episode_length
                draw_mean(axes, steps, shares, (0.0, 1.0), colour, linewidth=2.2)
        style_axes(axes, task, "environment steps", "time at goal, share of the episode")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
        axes.set_ylim(-0.03, 1.03)
        side_legend(axes, handles=_handles(colours), fontsize=FONT_SIZE - 1)
    return to_svg(figure, "published", "Learning curves of this study and published curves")


def _draw_published(axes: Axes, curve: PublishedCurve, colour: str) -> None:
    mean, margin = curve.mean / EPISODE_LENGTH, NORMAL_QUANTILE * curve.error / EPISODE_LENGTH
    axes.plot(curve.steps, mean, color=colour, linewidth=0.9, linestyle="--")
    axes.fill_between(curve.steps, mean - margin, mean + margin, color=colour, alpha=0.1, lw=0)


def _handles(colours: Mapping[int, str]) -> list[Line2D]:
    return [
        *(Line2D([], [], color=colour, label=f"depth {d}") for d, colour in colours.items()),
        Line2D([], [], color=INK, linewidth=2.2, label="this study"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="published"),
    ]
