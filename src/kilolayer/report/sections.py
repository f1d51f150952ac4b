"""The sections of a run's report that show what the agent learnt. Each returns HTML.

A section that cannot be drawn raises UserError; the page then shows the error's sentence instead.
"""

from kilolayer.analysis.diagnostics import BlockDiagnostics, block_diagnostics
from kilolayer.analysis.load import Run
from kilolayer.analysis.value_map import (
    ValueMap,
    ValueOrder,
    chosen_goals,
    value_map,
    value_order,
)
from kilolayer.report.film import MARK_OF_GOALS, embedded, read_episodes, write_film
from kilolayer.report.maps import MOST_TRAJECTORIES, trajectory_map, value_maps
from kilolayer.report.page import paragraph, table
from kilolayer.report.plots import behaviour_curves, block_curves, learning_curves, success_by_path
from kilolayer.tasks.base import Task
from kilolayer.types import UserError

VALUE_RESOLUTION = 64
# The first environments of the evaluation, not selected by their score.
VIDEO_ENVS = 4
VIDEO_ENV_PIXELS = 240
VIDEO_FRAMES = 200
LARGEST_VIDEO = 1_500_000  # bytes


def curves_section(run: Run) -> str:
    if not any(event["event"] in ("train", "evaluation") for event in run.events):
        raise UserError("The run has logged nothing yet.")
    note = ""
    if not any(event["event"] == "train" for event in run.events):
        note = paragraph("No training round was logged, so the lower row is empty.", "notice")
    return note + learning_curves(run)


def trajectories_section(run: Run) -> str:
    headline, *others = run.task.splits
    episodes = {headline: read_episodes(run, headline)}
    for split in others:
        # An unfinished run may have no evaluation of the training goals yet.
        if (run.path / "episodes" / f"{split}.npz").exists():
            episodes[split] = read_episodes(run, split)
    envs = episodes["evaluation"]["goal"].shape[1]
    shown = min(envs, MOST_TRAJECTORIES)
    text = f"The first {shown} of {envs} episodes of the newest evaluation of each goal split."
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
    titles = [f"goal {place_text(run.task, values)}" for values in maps]
    sentences = [
        paragraph(_order_sentence(run.task, values, order))
        for values, order in zip(maps, orders, strict=True)
    ]
    return value_maps(run.task, maps, titles) + "".join(sentences)


def _order_sentence(task: Task, values: ValueMap, order: ValueOrder) -> str:
    goal = f"For the goal {place_text(task, values)}"
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


def place_text(task: Task, values: ValueMap) -> str:
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
        f"The first {film.envs} episodes of the newest evaluation, {speed}; also in "
        f"media/{film.path.name}. {MARK_OF_GOALS}"
    )
    return paragraph(text) + embedded(film, LARGEST_VIDEO)
