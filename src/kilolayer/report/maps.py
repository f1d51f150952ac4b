"""Maps of the plane as inline SVG: trajectories and the critic's values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from kilolayer.analysis.value_map import ValueMap
from kilolayer.render.style import FAILURE, INK, PAPER, PURPLE, SUCCESS, WALL
from kilolayer.report.svg import (
    FONT_SIZE,
    figure_legend,
    new_figure,
    panel_grid,
    style_axes,
    to_svg,
)
from kilolayer.tasks.base import Task, is_success

COLOURS = "viridis"  # of values; keeps its brightness in greyscale
MAX_TRAJECTORIES = 48  # more would hide each other
MAX_POINTS = 150  # of a trajectory


def trajectory_map(task: Task, episodes: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Trajectories of the first episodes of each goal split, one panel per split.

    episodes: by split, the arrays of `kilolayer.training.evaluate.Episodes`. The plot shows the
    first two coordinates of a goal; a single coordinate is shown over time.
    """
    figure, panels = _panels(task, len(episodes))
    for axes, (split, arrays) in zip(panels, episodes.items(), strict=True):
        _draw_ground(axes, task, f"{split} goals")
        _draw_trajectories(axes, task, arrays)
    handles = [
        Line2D([], [], color=SUCCESS, label="reached the goal"),
        Line2D([], [], color=FAILURE, label="did not reach it"),
        Line2D([], [], color=INK, marker="s", linestyle="", markersize=5, label="start"),
        Line2D([], [], color=PURPLE, marker="o", fillstyle="none", linestyle="", label="goal"),
    ]
    figure_legend(figure, handles=handles, loc="lower center", ncols=2 * len(episodes))
    return to_svg(figure, "trajectories", "Trajectories of the newest evaluation")


def _draw_trajectories(axes: Axes, task: Task, arrays: Mapping[str, np.ndarray]) -> None:
    achieved, alive = arrays["achieved"][:, :MAX_TRAJECTORIES], arrays["alive"]
    for env in range(achieved.shape[1]):
        steps = int(alive[:, env].sum())
        path, goal = achieved[: max(1, steps), env], arrays["goal"][: max(1, steps), env]
        reached = np.asarray(is_success(task, path, goal))[:steps].any()
        shown = np.linspace(0, len(path) - 1, min(len(path), MAX_POINTS)).astype(int)
        colour, order = (SUCCESS, 3) if reached else (FAILURE, 2)
        line = {"color": colour, "linewidth": 0.9, "alpha": 0.75, "zorder": order}
        if task.goal.dim == 1:
            axes.plot(shown, path[shown, 0], **line)
            axes.axhline(goal[-1, 0], color=PURPLE, linewidth=0.6, alpha=0.6)
            continue
        axes.plot(*path[shown, :2].T, **line)
        circle = {"fill": False, "color": PURPLE, "linewidth": 0.6, "alpha": 0.6}
        axes.add_patch(Circle((goal[-1, 0], goal[-1, 1]), task.goal.radius, **circle))
    if task.goal.dim == 1:
        axes.plot(0, arrays["start"].mean(), color=INK, marker="s", markersize=5, zorder=4)
        return
    starts = arrays["start"][: achieved.shape[1], :2]
    axes.plot(*starts.T, color=INK, marker="s", markersize=3, linestyle="", zorder=4)
    if task.maze is None:
        positions = np.concatenate([achieved[..., :2], arrays["goal"][:, : achieved.shape[1], :2]])
        positions = positions.reshape(-1, 2)
        middle = (positions.max(0) + positions.min(0)) / 2
        half = 0.55 * np.ptp(positions, axis=0).max() + task.goal.radius
        axes.set_xlim(middle[0] - half, middle[0] + half)
        axes.set_ylim(middle[1] - half, middle[1] + half)


def value_maps(task: Task, maps: Sequence[ValueMap], titles: Sequence[str]) -> str:
    """The critic's value for several goals next to each other, each with its own colour scale."""
    figure, panels = _panels(task, len(maps), extra_width=0.7)
    for axes, values, title in zip(panels, maps, titles, strict=True):
        _draw_ground(axes, task, title)
        bar = figure.colorbar(_draw_values(axes, values), ax=axes, shrink=0.8)
        bar.set_label("energy", fontsize=FONT_SIZE)
        bar.ax.tick_params(labelsize=FONT_SIZE - 1)
    return to_svg(figure, "values", "The critic's value for several goals")


def value_grid(task: Task, columns: Mapping[str, Sequence[ValueMap]], name: str) -> str:
    """Values of several critics for the same goals: a column for each critic, a row for each goal.

    Each map has its own colour scale from lowest to highest energy, since energies of different
    networks are not comparable. name: unique on the page.
    """
    rows = len(next(iter(columns.values())))
    size = 2.2  # inches of a map
    figure = new_figure(len(columns) * size + 1.4, rows * size * _aspect_ratio(task) + 0.7)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for index, (title, maps) in enumerate(columns.items()):
        for row, values in enumerate(maps):
            axes = grid[row, index]
            _draw_ground(axes, task, title if row == 0 else "")
            _draw_values(axes, values)
            axes.label_outer()
    scale = ScalarMappable(Normalize(0, 1), cmap=COLOURS)
    bar = figure.colorbar(scale, ax=grid, shrink=0.8 / rows, aspect=12, pad=0.01)
    bar.set_ticks([0, 1], labels=["lowest", "highest"])
    bar.set_label("energy, scaled per map", fontsize=FONT_SIZE)
    bar.ax.tick_params(labelsize=FONT_SIZE - 1)
    return to_svg(figure, name, "The critics' values for the same goals")


def _draw_values(axes: Axes, values: ValueMap) -> AxesImage:
    """Draw the map and a star at its goal."""
    pixel_x, pixel_y = values.x[1] - values.x[0], values.y[1] - values.y[0]
    edges = (
        values.x[0] - pixel_x / 2,
        values.x[-1] + pixel_x / 2,
        values.y[0] - pixel_y / 2,
        values.y[-1] + pixel_y / 2,
    )
    image = axes.imshow(
        values.value.T, origin="lower", extent=edges, cmap=COLOURS, interpolation="nearest"
    )
    axes.plot(
        *values.goal[:2], marker="*", markersize=13, color=PAPER, markeredgecolor=INK, zorder=4
    )
    return image


def _panels(task: Task, count: int, extra_width: float = 0.0) -> tuple[Figure, Any]:
    """A figure of `count` maps side by side with the task's aspect ratio, and its axes."""
    width = 3.6
    height = width * _aspect_ratio(task) + 0.9
    return panel_grid(count, count, count * (width + extra_width), height)


def _aspect_ratio(task: Task) -> float:
    """Height of a map over its width."""
    columns, rows = (1, 1) if task.maze is None else task.maze.walls.shape
    return rows / columns


def _draw_ground(axes: Axes, task: Task, title: str) -> None:
    names = [f"{c.name}, {c.unit}" for c in task.goal.coordinates]
    if len(names) == 1:
        style_axes(axes, title, "control steps", names[0])
        return
    style_axes(axes, title, *names[:2], grid=False)
    axes.set_aspect("equal")
    if task.maze is None:
        return
    for centre_x, centre_y, half_x, half_y in task.maze.wall_rectangles:
        corner = (centre_x - half_x, centre_y - half_y)
        axes.add_patch(Rectangle(corner, 2 * half_x, 2 * half_y, color=WALL, linewidth=0.4))
    rows, columns = task.maze.walls.shape
    half = task.maze.cell_size / 2
    axes.set_xlim(-half, rows * task.maze.cell_size - half)
    axes.set_ylim(-half, columns * task.maze.cell_size - half)
