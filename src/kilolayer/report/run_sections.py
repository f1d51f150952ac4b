"""The sections of a run's report on learning curves, movement and networks. Each returns HTML.

A section that cannot be drawn raises UserError; the page then shows the error message.
"""

from kilolayer.analysis.diagnostics import BlockDiagnostics, block_diagnostics
from kilolayer.analysis.load import Run
from kilolayer.analysis.value_map import (
    ValueCorrelation,
    ValueMap,
    maps_of_goals,
    representative_goals,
    value_correlation,
)
from kilolayer.report.film import GOAL_LEGEND, embed_video, write_film
from kilolayer.report.maps import MAX_TRAJECTORIES, trajectory_map, value_maps
from kilolayer.report.page import paragraph, table
from kilolayer.report.run_plots import (
    behaviour_curves,
    behaviour_metrics,
    block_curves,
    learning_curves,
    success_by_path,
)
from kilolayer.tasks.base import Task
from kilolayer.types import UserError

VALUE_RESOLUTION = 64
VIDEO_ENVS = 4
VIDEO_ENV_PIXELS = 240
VIDEO_FRAMES = 200
LARGEST_VIDEO = 1_500_000  # bytes
NO_MOVEMENT = "This task has no movement metrics, and no episode has succeeded yet."


def curves_section(run: Run) -> str:
    if not any(event["event"] in ("train", "evaluation") for event in run.events):
        raise UserError("The run has logged nothing yet.")
    note = ""
    if not any(event["event"] == "train" for event in run.events):
        note = paragraph("No training round was logged, so the lower row is empty.", "notice")
    return note + learning_curves(run)


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


def paths_section(run: Run) -> str:
    if run.task.maze is None:
        raise UserError("This task has no maze, so path lengths are not defined.")
    return success_by_path(run)


def behaviour_section(run: Run) -> str:
    if not behaviour_metrics([run]):
        raise UserError(NO_MOVEMENT)
    return behaviour_curves(run)


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
