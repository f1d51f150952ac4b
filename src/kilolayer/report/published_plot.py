"""A study's learning curves beside published curves."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from kilolayer.analysis.groups import Group
from kilolayer.analysis.published import EPISODE_LENGTH, PublishedCurve
from kilolayer.render.style import INK, line_style
from kilolayer.report.group_curves import draw_mean
from kilolayer.report.svg import FONT_SIZE, panel_grid, short_count, side_legend, style_axes, to_svg

NORMAL_QUANTILE = 1.96  # half-width of a 95 % interval in standard errors


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
            _draw_group(axes, group, colours[group.runs[0].config.network.depth])
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


def _draw_group(axes: Axes, group: Group, colour: str) -> None:
    steps, values = group.curve("evaluation/time_at_goal")
    values = values / group.task.episode_length
    if not len(steps):
        return
    draw_mean(axes, steps, values, (0.0, 1.0), colour, linewidth=2.2)


def _handles(colours: Mapping[int, str]) -> list[Line2D]:
    return [
        *(Line2D([], [], color=colour, label=f"depth {d}") for d, colour in colours.items()),
        Line2D([], [], color=INK, linewidth=2.2, label="this study"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="published"),
    ]
