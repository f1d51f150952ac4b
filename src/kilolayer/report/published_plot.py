"""A study's learning curves over published ones."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from kilolayer.analysis.groups import Group
from kilolayer.analysis.published import EPISODE, PublishedCurve
from kilolayer.render.style import INK, look
from kilolayer.report.group_curves import student_margin
from kilolayer.report.plots import short_count
from kilolayer.report.svg import FONT_SIZE, dress, new_figure, to_svg

NORMAL = 1.96  # standard errors in half of a 95 % interval


def published_plot(
    groups: Mapping[str, Sequence[Group]],
    published: Mapping[str, Mapping[int, PublishedCurve]],
) -> str:
    """A panel per task: published curves thin and dashed, ours thick; one colour per depth."""
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(11, 3.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    for axes, (task, ours) in zip(grid.flat, groups.items(), strict=False):
        curves = published[task]
        depths = sorted({*curves, *(group.runs[0].config.network.depth for group in ours)})
        colours = {depth: look(index).colour for index, depth in enumerate(depths)}
        for depth, curve in curves.items():
            _draw_published(axes, curve, colours[depth])
        for group in ours:
            _draw_ours(axes, group, colours[group.runs[0].config.network.depth])
        dress(axes, task, "environment steps", "time at goal, share of the episode")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.set_ylim(-0.03, 1.03)
        axes.legend(
            handles=_handles(colours),
            fontsize=FONT_SIZE - 1,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
        )
    return to_svg(figure, "published", "Learning curves of this study over published ones")


def _draw_published(axes: Axes, curve: PublishedCurve, colour: str) -> None:
    mean, margin = curve.mean / EPISODE, NORMAL * curve.error / EPISODE
    axes.plot(curve.steps, mean, color=colour, linewidth=0.9, linestyle="--")
    axes.fill_between(curve.steps, mean - margin, mean + margin, color=colour, alpha=0.1, lw=0)


def _draw_ours(axes: Axes, group: Group, colour: str) -> None:
    steps, values = group.curve("evaluation/time_at_goal")
    values = values / group.runs[0].task.episode_length
    if not len(steps):
        return
    mean = values.mean(0)
    axes.plot(steps, mean, color=colour, linewidth=2.2)
    if len(values) > 1:
        margin = student_margin(values)
        axes.fill_between(steps, mean - margin, mean + margin, color=colour, alpha=0.2, lw=0)


def _handles(colours: Mapping[int, str]) -> list[Line2D]:
    return [
        *(Line2D([], [], color=colour, label=f"depth {d}") for d, colour in colours.items()),
        Line2D([], [], color=INK, linewidth=2.2, label="this study"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="published"),
    ]
