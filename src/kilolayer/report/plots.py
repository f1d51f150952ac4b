"""Curves and bars of a run, each as inline SVG."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kilolayer.analysis.diagnostics import BlockDiagnostics
from kilolayer.analysis.load import Run
from kilolayer.render.style import BLUE, INK, ORANGE, PAPER, SERIES, luminance
from kilolayer.report.svg import FONT_SIZE, dress, new_figure, to_svg

LONGEST_LINE = 400  # points of a curve; more points are not visible at the plot's size
BEHAVIOUR_UNITS = {
    "torso_height": "m",
    "upright_share": "share of steps",
    "speed": "{}/s",
    "contacts": "at once",
    "falls": "share of episodes",
    "puck_travel": "m",
    "cube_travel": "m",
    "cube_height": "m",
    "grasp_share": "share of steps",
    "path_efficiency": "shortest / taken",
}
# The first four that a run has logged are shown.
MEASURES = {
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


def learning_curves(run: Run) -> str:
    """Scores of the evaluations and training metrics, over the progress of the run."""
    unit = run.task.goal.coordinates[0].unit
    scores = {
        "success": ("Success", "share of episodes"),
        "easy_success": (f"Within {run.task.goal.easy_radius:.3g} {unit}", "share of episodes"),
        "time_at_goal": ("Time at goal", "control steps"),
        "smallest_distance": ("Smallest distance to the goal", unit),
    }
    logged = {name: text for name, text in MEASURES.items() if len(run.curve(name)[0])}
    figure = new_figure(11, 5)
    grid = figure.subplots(2, 4)
    for axes, (name, (title, label)) in zip(grid[0], scores.items(), strict=True):
        for split, called in SPLITS.items():
            steps, values = run.curve(f"{split}/{name}")
            if len(steps):
                colour = SPLIT_COLOURS[split]
                axes.plot(steps, values, color=colour, marker="o", markersize=3, label=called)
        dress(axes, title, run.clock, label)
        if label == "share of episodes":
            axes.set_ylim(-0.03, 1.03)
    measures = list((logged or MEASURES).items())[:4]
    for axes in grid[1, len(measures) :]:
        axes.set_visible(False)
    for axes, (name, (title, label)) in zip(grid[1], measures, strict=False):
        steps, values = thinned(*run.curve(name))
        axes.plot(steps, values, color=BLUE, linewidth=1)
        dress(axes, title, run.clock, label)
        if not len(steps):
            _say_empty(axes)
    for axes in grid.flat:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(
            handles, labels, loc="outside upper right", ncols=2, fontsize=FONT_SIZE, frameon=False
        )
    return to_svg(figure, "curves", f"Learning curves over {run.clock}")


def behaviour_curves(run: Run) -> str:
    """How the agent moved in each evaluation, a panel for each measure of the task."""
    names = sorted({name for event in run.events for name in event.get("metrics", {})})
    prefix = "evaluation/behaviour/"
    names = [name for name in names if name.startswith(prefix)]
    names += ["evaluation/path_efficiency"] * bool(len(run.curve("evaluation/path_efficiency")[0]))
    figure = new_figure(11, 2.6 * -(-len(names) // 4))
    grid = figure.subplots(-(-len(names) // 4), 4, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.plot(*run.curve(name), color=BLUE, marker="o", markersize=3)
        measure = name.rsplit("/", 1)[-1]
        unit = BEHAVIOUR_UNITS.get(measure, "").format(run.task.goal.coordinates[0].unit)
        dress(axes, measure.replace("_", " "), run.clock, unit)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    return to_svg(figure, "behaviour", f"How the agent moved, over {run.clock}")


def success_by_path(run: Run) -> str:
    """Bars: success of the newest evaluation for every length of the shortest path."""
    scores = {split: _by_path(run, split) for split in SPLITS}
    scores = {split: by_path for split, by_path in scores.items() if by_path}
    figure = new_figure(8, 2.8)
    axes = figure.subplots()
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
    dress(axes, "", "shortest path from start to goal, cells", "share of episodes")
    axes.set_ylim(0, 1.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(scores) > 1:
        axes.legend(fontsize=FONT_SIZE, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return to_svg(figure, "paths", "Success by length of the shortest path")


def _by_path(run: Run, split: str) -> dict[int, float]:
    """Success for each path length in cells, of the split's newest evaluation."""
    prefix = f"{split}/success_by_path/"
    for event in reversed(run.events):
        metrics = event.get("metrics", {})
        found = {
            int(name.removeprefix(prefix)): value
            for name, value in metrics.items()
            if name.startswith(prefix)
        }
        if found:
            return dict(sorted(found.items()))
    return {}


def block_curves(diagnostics: Mapping[str, BlockDiagnostics]) -> str:
    """Four panels over the blocks, one line per network."""
    panels = {
        "residual_norm": ("Residual stream after the block", "mean norm"),
        "effective_rank": ("Effective rank after the block", "dimensions"),
        "dormant_share": ("Dormant units", "share of the block's units"),
        "gradient_norm": ("Gradient of the own loss", "norm"),
    }
    figure = new_figure(11, 2.9)
    grid = figure.subplots(1, 4)
    for axes, (field, (title, label)) in zip(grid, panels.items(), strict=True):
        for (name, blocks), colour in zip(diagnostics.items(), cycle(SERIES), strict=False):
            values = getattr(blocks, field)
            numbers = np.arange(1, len(values) + 1)
            # Markers show single blocks, but only while there are few.
            marker = "o" if len(values) <= 32 else ""
            axes.plot(numbers, values, color=colour, marker=marker, markersize=4, label=name)
        dress(axes, title, "block", label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_ylim(bottom=0)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside upper right",
        ncols=3,
        fontsize=FONT_SIZE,
        frameon=False,
    )
    return to_svg(figure, "blocks", "Diagnostics of every residual block")


def time_bar(seconds: Mapping[str, float]) -> str:
    """One bar for the whole run, divided into its parts in the given order; parts in seconds."""
    figure = new_figure(11, 1.3)
    axes = figure.subplots()
    total, start = sum(seconds.values()), 0.0
    for (name, value), colour in zip(seconds.items(), cycle(SERIES), strict=False):
        ink = PAPER if luminance(colour) < 0.4 else INK
        axes.barh(0, value, left=start, color=colour, edgecolor=PAPER, label=name)
        if value > 0.05 * total:
            share = f"{value / total:.0%}"
            middle = start + value / 2
            axes.text(middle, 0, share, ha="center", va="center", fontsize=FONT_SIZE, color=ink)
        start += value
    dress(axes, "", "seconds", "", grid=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=len(seconds),
        fontsize=FONT_SIZE,
        frameon=False,
    )
    return to_svg(figure, "time", "Where the time went")


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `LONGEST_LINE` points: means of equally long windows, each at its last step."""
    stretch = -(-len(steps) // LONGEST_LINE)
    if stretch <= 1:
        return steps, values
    starts = np.arange(0, len(steps), stretch)
    ends = np.minimum(starts + stretch, len(steps))
    return steps[ends - 1], np.add.reduceat(values, starts) / (ends - starts)


def short_count(value: float) -> str:
    """A count for an axis: 250k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def rounded_count(value: float) -> str:
    """A count to three digits: 22.4M."""
    return short_count(float(f"{value:.3g}"))


def _say_empty(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.text(0.5, 0.5, "nothing yet", ha="center", transform=axes.transAxes, fontsize=FONT_SIZE)
