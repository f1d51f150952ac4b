"""Films of recorded evaluation episodes, stored as a file and embedded in a page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.errors import UserError
from kilolayer.render.media import freeze_after_termination, render_frames, write_video
from kilolayer.render.style import Mark
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import Episodes

FPS = 20
MAX_SECONDS = 10  # of a film, for episodes of any length
GOAL_LEGEND = (
    "The coloured marker is the goal; it is green while the agent is within the success radius."
)


@dataclass(frozen=True)
class Film:
    """envs: number of environments side by side. speed: multiple of real time. width: pixels."""

    path: Path
    envs: int
    speed: float
    width: int


def write_film(run: Run, path: Path, envs: int, pixels: int, frames: int) -> Film:
    """Film the first environments of the newest evaluation in at most `frames` frames.

    pixels: longer side of one environment. Raises UserError if there are no episodes or if this
    machine cannot render them.
    """
    episodes = run.episodes("evaluation")
    envs = min(envs, episodes["qpos"].shape[1])
    qpos = freeze_after_termination(episodes["qpos"][:, :envs], episodes["alive"][:, :envs])
    every = -(-len(qpos) // frames)
    goal, achieved = episodes["goal"][:, :envs], episodes["achieved"][:, :envs]
    reached = np.asarray(is_success(run.task, achieved, goal))
    images = render_frames(run.task, qpos, goal, reached, pixels, every)
    write_video(path, images, FPS)
    return Film(path, envs, every * FPS * run.task.world.control_step, images.shape[2])


def film_episodes(
    task: Task, played: Episodes, path: Path, marks: Sequence[Mark] = (), pixels: int = 240
) -> Film:
    """Film whole episodes side by side. marks: drawn in every episode.

    Raises UserError if the episodes cannot be drawn or the file cannot be written.
    """
    qpos = freeze_after_termination(np.asarray(played.qpos), np.asarray(played.alive))
    every = -(-len(qpos) // (MAX_SECONDS * FPS))
    reached = np.asarray(is_success(task, played.achieved, played.goal))
    frames = render_frames(task, qpos, np.asarray(played.goal), reached, pixels, every, marks)
    write_video(path, frames, FPS)
    return Film(path, qpos.shape[1], every * FPS * task.world.control_step, frames.shape[2])


def embed_video(path: Path, width: int, largest: int) -> str:
    """An .mp4 as HTML, `width` pixels wide; raises UserError above `largest` bytes."""
    if path.stat().st_size > largest:
        raise UserError(f"The video is too large to embed: see media/{path.name}.")
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:video/mp4;base64,{data}"
    return (
        f'<video controls loop muted autoplay playsinline width="{width}" src="{source}"></video>'
    )
