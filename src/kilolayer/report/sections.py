"""The sections of a run's report that show what the agent learnt. Each returns HTML.

A section that cannot be drawn raises UserError; the page then shows the sentence in its place.
"""

import base64
from pathlib import Path

import numpy as np

from kilolayer.analysis.arrays import read_arrays
from kilolayer.analysis.diagnostics import BlockDiagnostics, block_diagnostics
from kilolayer.analysis.load import EPISODE_ARRAYS, Run
from kilolayer.analysis.value_map import (
    ValueMap,
    ValueOrder,
    chosen_goals,
    value_map,
    value_order,
)
from kilolayer.report.maps import MOST_TRAJECTORIES, trajectory_map, value_maps
from kilolayer.report.media import freeze_after_termination, render_frames, write_video
from kilolayer.report.page import paragraph, table
from kilolayer.report.plots import behaviour_curves, block_curves, learning_curves, success_by_path
from kilolayer.tasks.base import Task, is_success
from kilolayer.types import UserError

VALUE_RESOLUTION = 64
# The first worlds of the evaluation, good or bad: nothing is picked.
VIDEO_WORLDS = 4
VIDEO_WORLD_PIXELS = 240
VIDEO_FRAMES = 200
VIDEO_FPS = 20
LARGEST_VIDEO = 1_500_000  # bytes


def curves_section(run: Run) -> str:
    if not any(event["event"] in ("train", "evaluation") for event in run.events):
        raise UserError("The run has logged nothing yet.")
    note = ""
    if not any(event["event"] == "train" for event in run.events):
        note = paragraph("No training round was logged, so the lower row is empty.", "notice")
    return note + learning_curves(run)


def trajectories_section(run: Run) -> str:
    episodes = {}
    for split in run.task.splits:
        episodes[split] = read_episodes(run, split)
    worlds = episodes["evaluation"]["goal"].shape[1]
    shown = min(worlds, MOST_TRAJECTORIES)
    text = f"The first {shown} of {worlds} episodes of the newest evaluation of each goal split."
    return paragraph(text) + trajectory_map(run.task, episodes)


def paths_section(run: Run) -> str:
    if run.task.maze is None:
        raise UserError("This task has no maze, so its ways have no length in cells.")
    return success_by_path(run)


def behaviour_section(run: Run) -> str:
    names = {name for event in run.events for name in event.get("metrics", {})}
    if not any("/behaviour/" in name or name.endswith("path_efficiency") for name in names):
        raise UserError("This task measures no movement, and no episode has succeeded yet.")
    return behaviour_curves(run)


def values_section(run: Run) -> str:
    maze = run.task.maze
    maps = [value_map(run, goal, VALUE_RESOLUTION) for goal in chosen_goals(run.task)]
    orders = [value_order(values, maze) for values in maps]
    titles = [f"goal {_place(run.task, values)}" for values in maps]
    sentences = [
        paragraph(_order_sentence(run.task, values, order))
        for values, order in zip(maps, orders, strict=True)
    ]
    return value_maps(run.task, maps, titles) + "".join(sentences)


def _order_sentence(task: Task, values: ValueMap, order: ValueOrder) -> str:
    goal = f"For the goal {_place(task, values)}"
    if order.path is None:
        return (
            f"{goal} the value falls with the straight-line distance with a rank correlation of "
            f"{order.line:.2f} (1: strictly); {order.verdict}."
        )
    return (
        f"{goal} the value's rank correlation with nearness along the shortest path is "
        f"{order.path:.2f}, with nearness along the straight line {order.line:.2f}, over "
        f"{order.places} free cells: {order.verdict}."
    )


def _place(task: Task, values: ValueMap) -> str:
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
    episodes = read_episodes(run, "evaluation")
    worlds = min(VIDEO_WORLDS, episodes["qpos"].shape[1])
    qpos = freeze_after_termination(episodes["qpos"][:, :worlds], episodes["alive"][:, :worlds])
    every = -(-len(qpos) // VIDEO_FRAMES)
    goal, achieved = episodes["goal"][:, :worlds], episodes["achieved"][:, :worlds]
    reached = np.asarray(is_success(run.task, achieved, goal))
    frames = render_frames(run.task, qpos, goal, reached, VIDEO_WORLD_PIXELS, every)
    path = run.path / "media" / "evaluation.mp4"
    write_video(path, frames, VIDEO_FPS)
    speed = every * VIDEO_FPS * run.task.world.control_step
    text = (
        f"The first {worlds} episodes of the newest evaluation, {speed:.2g} times as fast as in "
        f"the world; also in media/{path.name}. The mark is the goal; it turns green while the "
        "agent is within it."
    )
    return paragraph(text) + _embedded(path, frames.shape[2])


def _embedded(path: Path, width: int) -> str:
    if path.stat().st_size > LARGEST_VIDEO:
        raise UserError(f"The video is too large to be embedded: see media/{path.name}.")
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:video/mp4;base64,{data}"
    return (
        f'<video controls loop muted autoplay playsinline width="{width}" src="{source}"></video>'
    )


def read_episodes(run: Run, split: str) -> dict[str, np.ndarray]:
    """The newest episodes of a goal split; raises UserError if missing, damaged or of a wrong
    shape."""
    path = run.path / "episodes" / f"{split}.npz"
    arrays = read_arrays(path, EPISODE_ARRAYS)
    time, worlds = arrays["alive"].shape if arrays["alive"].ndim == 2 else (0, 0)
    goal = (time, worlds, run.task.goal.dim)
    fits = (
        time > 0
        and worlds > 0
        and arrays["start"].shape == goal[1:]
        and arrays["goal"].shape == goal
        and arrays["achieved"].shape == goal
        and arrays["qpos"].ndim == 3
        and len(arrays["qpos"]) == time
        and 0 < arrays["qpos"].shape[1] <= worlds
    )
    if not fits:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(f"{path} does not hold episodes of this run's task: {shapes}.")
    return arrays
