"""The figures of a run's report, with their tables and sentences. Each function returns HTML.

A figure that cannot be drawn raises UserError; the page then shows the error message.
"""

from collections.abc import Iterable, Mapping
from itertools import cycle

import numpy as np
from matplotlib.ticker import MaxNLocator

from kilolayer.analysis.diagnostics import BlockDiagnostics, block_diagnostics
from kilolayer.analysis.load import Run
from kilolayer.analysis.value_map import (
    ValueCorrelation,
    ValueMap,
    maps_of_goals,
    representative_goals,
    value_correlation,
)
from kilolayer.errors import UserError
from kilolayer.render.style import BLUE, INK, ORANGE, PAPER, SERIES, luminance
from kilolayer.report.film import GOAL_LEGEND, embed_video, write_film
from kilolayer.report.maps import MAX_TRAJECTORIES, trajectory_map, value_maps
from kilolayer.report.page import paragraph, table
from kilolayer.report.svg import (
    FONT_SIZE,
    count_axis,
    figure_legend,
    panel_grid,
    side_legend,
    style_axes,
    to_svg,
)
from kilolayer.tasks.base import Task

VALUE_RESOLUTION = 64
VIDEO_ENVS, VIDEO_ENV_PIXELS, VIDEO_FRAMES = 4, 240, 200
LARGEST_VIDEO = 1_500_000  # bytes
MAX_POINTS = 400  # of a curve; more points are not visible at the plot's size
BEHAVIOUR = "evaluation/behaviour/"
PATH_EFFICIENCY = "evaluation/path_efficiency"
NO_MOVEMENT = "This task has no movement metrics, and no episode has succeeded yet."
BEHAVIOUR_UNITS = {
    "torso_height": "m",
    "upright_share": "share of steps",
    "speed": "{}/s",
    "contacts": "simultaneous contacts",
    "falls": "share of episodes",
    "puck_travel": "m",
    "cube_travel": "m",
    "cube_height": "m",
    "grasp_share": "share of steps",
    "path_efficiency": "shortest / taken path",
}
# The first four that a run has logged are shown.
TRAINING_METRICS = {
    "critic/loss": ("Critic loss", "loss"),
    "critic/accuracy": ("Critic accuracy", "share of batch"),
    "critic/value": ("Critic value", "discounted reward"),
    "actor/entropy": ("Policy entropy", "nat"),
    "actor/temperature": ("Temperature", "energy per nat"),
    "critic/reward": ("Reward in the batch", "share of batch"),
    "actor/clipped_share": ("Clipped updates", "share of batch"),
    "actor/loss": ("Actor loss", "loss"),
}
SPLITS = {"evaluation": "evaluation goals", "evaluation_training_goals": "training goals"}
SPLIT_COLOURS = dict(zip(SPLITS, (BLUE, ORANGE), strict=True))


def trajectories_section(run: Run) -> str:
    main_split, *other_splits = run.task.splits
    episodes = {main_split: run.episodes(main_split)}
    for split in other_splits:
        # An unfinished run may have no evaluation of the training goals yet.
        if (run.path / "episodes" / f"{split}.npz").exists():
            episodes[split] = run.episodes(split)
    envs = episodes["evaluation"]["goal"].shape[1]
    shown = min(envs, MAX_TRAJECTORIES)
    text = f"The first {shown} of {envs} episodes of the newest evaluation of each goal split."
    return paragraph(text) + trajectory_map(run.task, episodes)


def values_section(run: Run) -> str:
    maps = maps_of_goals(run, representative_goals(run.task), VALUE_RESOLUTION)
    titles = [f"goal {goal_text(run.task, values)}" for values in maps]
    sentences = [
        paragraph(_correlation_sentence(run.task, values, value_correlation(values, run.task.maze)))
        for values in maps
    ]
    return value_maps(run.task, maps, titles) + "".join(sentences)


def _correlation_sentence(task: Task, values: ValueMap, found: ValueCorrelation) -> str:
    goal = f"For the goal {goal_text(task, values)}"
    if found.path is None:
        return (
            f"{goal} the rank correlation of the value with the negative straight-line distance is "
            f"{found.straight_line:.2f}; {found.conclusion}."
        )
    return (
        f"{goal} the rank correlation of the value with the negative length of the shortest path "
        f"is {found.path:.2f}, with the negative straight-line distance "
        f"{found.straight_line:.2f}, over {found.positions} free cells: {found.conclusion}."
    )


def goal_text(task: Task, values: ValueMap) -> str:
    x, y = values.goal[:2]
    return f"({x:.3g}, {y:.3g}) {task.goal.coordinates[0].unit}"


def blocks_section(run: Run) -> str:
    diagnostics = block_diagnostics(run)
    rows = [_block_row(name, blocks) for name, blocks in diagnostics.items()]
    header = (
        "network", "blocks", "norm, first", "norm, last", "rank, first", "rank, last",
        "dormant, mean", "gradient, first", "gradient, last",
    )  # fmt: skip
    return block_curves(diagnostics) + table(header, rows)


def _block_row(name: str, blocks: BlockDiagnostics) -> tuple[str, ...]:
    norm, rank, gradient = blocks.residual_norm, blocks.effective_rank, blocks.gradient_norm
    return (
        name,
        str(len(norm)),
        f"{norm[0]:.3g}",
        f"{norm[-1]:.3g}",
        f"{rank[0]:.1f}",
        f"{rank[-1]:.1f}",
        f"{blocks.dormant_share.mean():.1%}",
        f"{gradient[0]:.3g}",
        f"{gradient[-1]:.3g}",
    )


def video_section(run: Run) -> str:
    film = write_film(
        run, run.path / "media" / "evaluation.mp4", VIDEO_ENVS, VIDEO_ENV_PIXELS, VIDEO_FRAMES
    )
    speed = "in real time" if film.speed == 1 else f"at {film.speed:.2g} times real time"
    text = (
        f"The first {film.envs} episodes of the newest evaluation, {speed}, also stored "
        f"in media/{film.path.name}. {GOAL_LEGEND}"
    )
    return paragraph(text) + embed_video(film.path, film.width, LARGEST_VIDEO)


def learning_curves(run: Run) -> str:
    """Scores of the evaluations and training metrics, over the progress of the run."""
    kinds = {event["event"] for event in run.events}
    if not kinds & {"train", "evaluation"}:
        raise UserError("The run has logged nothing yet.")
    note = "No training round was logged, so the lower row is empty."
    unit = run.task.goal.coordinates[0].unit
    scores = {
        "success": ("Success", "share of episodes"),
        "easy_success": (f"Within {run.task.goal.easy_radius:.3g} {unit}", "share of episodes"),
        "time_at_goal": ("Time at goal", "control steps"),
        "smallest_distance": ("Smallest distance to the goal", unit),
    }
    logged = {name: text for name, text in TRAINING_METRICS.items() if len(run.curve(name)[0])}
    metrics = list((logged or TRAINING_METRICS).items())[:4]
    figure, panels = panel_grid(4 + len(metrics), 4, 11, 2.5)
    for axes, (name, (title, label)) in zip(panels[:4], scores.items(), strict=True):
        for split, split_name in SPLITS.items():
            steps, values = run.curve(f"{split}/{name}")
            if len(steps):
                colour = SPLIT_COLOURS[split]
                axes.plot(steps, values, color=colour, marker="o", markersize=3, label=split_name)
        style_axes(axes, title, run.progress_unit, label)
        if label == "share of episodes":
            axes.set_ylim(-0.03, 1.03)
    for axes, (name, (title, label)) in zip(panels[4:], metrics, strict=True):
        steps, values = downsample(*run.curve(name))
        axes.plot(steps, values, color=BLUE, linewidth=1)
        style_axes(axes, title, run.progress_unit, label)
        if not len(steps):
            axes.set_xlim(0, 1)
            place = {"ha": "center", "transform": axes.transAxes}
            axes.text(0.5, 0.5, "no data yet", fontsize=FONT_SIZE, **place)
    for axes in panels:
        count_axis(axes, 4)
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure_legend(figure, handles, labels, loc="upper right", ncols=2)
    drawn = to_svg(figure, "curves", f"Learning curves over {run.progress_unit}")
    return drawn if "train" in kinds else paragraph(note, "notice") + drawn


def behaviour_metrics(runs: Iterable[Run]) -> list[str]:
    """Names of the movement metrics that at least one of the runs has logged."""
    logged = set().union(*(run.metric_names for run in runs))
    names = sorted(name for name in logged if name.startswith(BEHAVIOUR))
    return names + [PATH_EFFICIENCY] * (PATH_EFFICIENCY in logged)


def behaviour_label(task: Task, name: str) -> tuple[str, str]:
    """Title and unit of a movement metric."""
    metric = name.rsplit("/", 1)[-1]
    unit = BEHAVIOUR_UNITS.get(metric, "").format(task.goal.coordinates[0].unit)
    return metric.replace("_", " "), unit


def behaviour_curves(run: Run) -> str:
    """Movement in each evaluation, a panel for each metric; UserError if there is none."""
    names = behaviour_metrics([run])
    if not names:
        raise UserError(NO_MOVEMENT)
    figure, panels = panel_grid(len(names), 4, 11, 2.6)
    for axes, name in zip(panels, names, strict=True):
        axes.plot(*run.curve(name), color=BLUE, marker="o", markersize=3)
        title, unit = behaviour_label(run.task, name)
        style_axes(axes, title, run.progress_unit, unit)
        count_axis(axes, 4)
    return to_svg(figure, "behaviour", f"Movement of the agent over {run.progress_unit}")


def success_by_path(run: Run) -> str:
    """Bars: success of the newest evaluation for every length of the shortest path; raises
    UserError for a task without a maze."""
    if run.task.maze is None:
        raise UserError("This task has no maze, so path lengths are not defined.")
    scores = {split: _by_path(run, split) for split in SPLITS}
    scores = {split: by_path for split, by_path in scores.items() if by_path}
    figure, (axes,) = panel_grid(1, 1, 8, 2.8)
    width = 0.8 / max(1, len(scores))
    for index, (split, by_path) in enumerate(scores.items()):
        shift = (index - (len(scores) - 1) / 2) * width
        lengths = np.array(list(by_path))
        bars = axes.bar(
            lengths + shift,
            list(by_path.values()),
            width,
            color=SPLIT_COLOURS[split],
            label=SPLITS[split],
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=FONT_SIZE - 2, color=INK)
    style_axes(axes, "", "shortest path from start to goal, cells", "share of episodes")
    axes.set_ylim(0, 1.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(scores) > 1:
        side_legend(axes)
    return to_svg(figure, "paths", "Success by length of the shortest path")


def _by_path(run: Run, split: str) -> dict[int, float]:
    """Success for each path length in cells, of the split's newest evaluation."""
    prefix = f"{split}/success_by_path/"
    for event in reversed(run.events):
        by_path = {
            int(name.removeprefix(prefix)): value
            for name, value in event.get("metrics", {}).items()
            if name.startswith(prefix)
        }
        if by_path:
            return dict(sorted(by_path.items()))
    return {}


def block_curves(diagnostics: Mapping[str, BlockDiagnostics]) -> str:
    """Four panels over the blocks, one line per network."""
    fields = {
        "residual_norm": ("Residual stream after the block", "mean norm"),
        "effective_rank": ("Effective rank after the block", "dimensions"),
        "dormant_share": ("Dormant units", "share of the block's units"),
        "gradient_norm": ("Gradient of the network's loss", "norm"),
    }
    figure, panels = panel_grid(4, 4, 11, 2.9)
    for axes, (field, (title, label)) in zip(panels, fields.items(), strict=True):
        for (name, blocks), colour in zip(diagnostics.items(), cycle(SERIES), strict=False):
            values = getattr(blocks, field)
            numbers = np.arange(1, len(values) + 1)
            # Markers show single blocks if there are few.
            marker = "o" if len(values) <= 32 else ""
            axes.plot(numbers, values, color=colour, marker=marker, markersize=4, label=name)
        style_axes(axes, title, "block", label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_ylim(bottom=0)
    figure_legend(figure, *panels[0].get_legend_handles_labels(), loc="upper right", ncols=3)
    return to_svg(figure, "blocks", "Diagnostics of every residual block")


def time_bar(seconds: Mapping[str, float]) -> str:
    """One bar for the whole run, divided into its parts in the given order; parts in seconds."""
    figure, (axes,) = panel_grid(1, 1, 11, 1.3)
    total, start = sum(seconds.values()), 0.0
    for (name, value), colour in zip(seconds.items(), cycle(SERIES), strict=False):
        ink = PAPER if luminance(colour) < 0.4 else INK
        axes.barh(0, value, left=start, color=colour, edgecolor=PAPER, label=name)
        if value > 0.05 * total:
            share = f"{value / total:.0%}"
            middle = start + value / 2
            axes.text(middle, 0, share, ha="center", va="center", fontsize=FONT_SIZE, color=ink)
        start += value
    style_axes(axes, "", "seconds", "", grid=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0)
    handles = axes.get_legend_handles_labels()
    figure_legend(figure, *handles, loc="upper left", ncols=len(seconds))
    return to_svg(figure, "time", "Wall-clock time by part of the run")


def downsample(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MAX_POINTS` points: means of equally long windows, each at its last step."""
    window = -(-len(steps) // MAX_POINTS)
    if window <= 1:
        return steps, values
    starts = np.arange(0, len(steps), window)
    ends = np.minimum(starts + window, len(steps))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)
