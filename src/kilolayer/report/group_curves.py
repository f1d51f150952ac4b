"""Learning curves of groups of runs: a thin line for each seed, the mean and its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy import stats

from kilolayer.analysis.groups import Group, score_bounds
from kilolayer.analysis.statistics import CONFIDENCE
from kilolayer.render.style import Look, look
from kilolayer.report.plots import short_count
from kilolayer.report.svg import FONT_SIZE, dress, new_figure, to_svg

ROW_HEIGHT, LEGEND_HEIGHT = 2.6, 0.35  # inches
LEGEND_COLUMNS = 5


def group_curves(rows: Mapping[str, Sequence[Group]], names: Mapping[str, str]) -> str:
    """A row of panels for each entry of `rows`, a line for each of its groups.

    names: the label of each line, by the name of its group. Lines with the same label share a
    style.
    """
    called = list(dict.fromkeys(names.values()))
    looks = {name: look(index) for index, name in enumerate(called)}
    legend_rows = -(-len(called) // LEGEND_COLUMNS)
    figure = new_figure(11, ROW_HEIGHT * len(rows) + LEGEND_HEIGHT * legend_rows)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for line, (title, groups) in zip(grid, rows.items(), strict=True):
        for axes, (metric, label) in zip(line, _scores(groups[0]).items(), strict=True):
            for group in groups:
                _draw(axes, group, metric, looks[names[group.name]])
            dress(axes, title if axes is line[0] else "", "environment steps", label)
            _frame(axes, metric)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    figure.legend(
        handles=[_handle(looks[name], f"{name} ({_seeds(rows, names, name)})") for name in called],
        loc="outside upper left",
        ncols=LEGEND_COLUMNS,
        fontsize=FONT_SIZE,
        frameon=False,
        handlelength=3.5,
    )
    return to_svg(figure, "group-curves", "Learning curves by group, over environment steps")


def _scores(group: Group) -> dict[str, str]:
    task = group.runs[0].task
    return {
        "evaluation/success": "success, share of episodes",
        "evaluation/time_at_goal": f"time at goal, control steps of {task.episode_length}",
        "evaluation/smallest_distance": f"smallest distance, {task.goal.coordinates[0].unit}",
    }


def _draw(axes: Axes, group: Group, metric: str, style: Look) -> None:
    for run in group.runs:
        axes.plot(*run.curve(metric), color=style.colour, linewidth=0.6, alpha=0.6)
    steps, values = group.curve(metric)
    if not len(steps):
        return
    mean = values.mean(0)
    axes.plot(steps, mean, color=style.colour, linestyle=style.dash, linewidth=1.9)
    if len(values) > 1:
        margin = student_margin(values)
        low, high = np.clip(
            [mean - margin, mean + margin], *score_bounds(group.runs[0].task, metric)
        )
        axes.fill_between(steps, low, high, color=style.colour, alpha=0.13, linewidth=0)


def _frame(axes: Axes, metric: str) -> None:
    """Fit the axis to the seeds' lines, since the interval of two seeds would dwarf them."""
    if metric == "evaluation/success":
        axes.set_ylim(-0.03, 1.03)
        return
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    if len(values):
        room = 0.05 * max(float(np.ptp(values)), 1e-6)
        axes.set_ylim(values.min() - room, values.max() + room)


def student_margin(values: np.ndarray) -> np.ndarray:
    """Half the 95 % interval of the mean over seeds, `[seeds, evaluations] -> [evaluations]`."""
    seeds = len(values)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    return quantile * values.std(0, ddof=1) / np.sqrt(seeds)


def _handle(style: Look, label: str) -> Line2D:
    return Line2D([], [], color=style.colour, linestyle=style.dash, linewidth=1.9, label=label)


def _seeds(rows: Mapping[str, Sequence[Group]], names: Mapping[str, str], name: str) -> str:
    counts = [g.seeds for groups in rows.values() for g in groups if names[g.name] == name]
    low, high = min(counts), max(counts)
    if low != high:
        return f"{low} to {high} seeds"
    return "1 seed" if low == 1 else f"{low} seeds"
