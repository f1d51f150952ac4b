"""Frames of recorded episodes side by side, and video files."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from kilolayer.errors import UserError, bad_field
from kilolayer.physics.build import build_physics
from kilolayer.physics.native import MujocoWorld
from kilolayer.render.scene import make_scene, require_drawable
from kilolayer.render.style import Mark
from kilolayer.runtime.files import guard_disk, replacing
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import evaluation_key, evaluation_start

GAP = 4  # pixels between environments
WHITE = 255
# Constant quality of x264, 0 (lossless) to 51; at 28 a frame of a simple scene has 1-3 kB.
QUALITY = "28"
STILL_FRAMES = 6  # of an episode in one .png


def render_frames(
    task: Task,
    qpos: np.ndarray,
    goal: np.ndarray,
    reached: np.ndarray,
    size: int = 240,
    every: int = 1,
    marks: Sequence[Mark] = (),
) -> np.ndarray:
    """Frames `[frames, height, width, 3]` uint8 of recorded environments, shown side by side.

    qpos `[time, envs, nq]`: recorded positions. goal `[time, envs, goal]`: drawn with the success
    radius, in another colour while `reached [time, envs]`. size: pixels of the longer side of one
    environment. every: control steps per frame; the first step is included. marks: drawn in every
    environment. The camera shows a maze from above, x to the right and y up; open ground from
    behind the agent, towards the goal; a stationary robot from the camera angles of its model.
    Raises UserError if the arrays do not fit the task or this machine cannot render.
    """
    qpos, goal = np.asarray(qpos), np.asarray(goal)
    _check_arrays(task, qpos, goal, reached, size, every)
    with make_scene(task, size, marks) as scene:

        def draw(time: int, env: int) -> np.ndarray:
            return scene.draw(qpos[: time + 1, env], goal[time, env], reached[time, env])

        environments, times = range(qpos.shape[1]), range(0, len(qpos), every)
        return np.stack([_tile([draw(time, env) for env in environments]) for time in times])


def render_start(task: Task, size: int) -> np.ndarray:
    """A picture `[height, width, 3]` uint8 of one evaluation start, with its goal.

    Raises UserError if the task cannot be drawn or this machine cannot render.
    """
    require_drawable(task)
    start = evaluation_start(task, evaluation_key(0, 0), 1, "evaluation")
    state = build_physics(task.world, 1).init(start.qpos, start.qvel)
    goal = np.asarray(task.current_goal(state, start.goal))
    return render_frames(task, np.asarray(start.qpos)[None], goal[None], np.zeros((1, 1)), size)[0]


def _check_arrays(
    task: Task, qpos: np.ndarray, goal: np.ndarray, reached: np.ndarray, size: int, every: int
) -> None:
    require_drawable(task)
    world = task.world
    nq = world.model.nq if isinstance(world, MujocoWorld) else 2
    if qpos.ndim != 3 or 0 in qpos.shape or qpos.shape[2] != nq:
        raise UserError(
            f"positions of the shape {qpos.shape} cannot be drawn: task {task.name} needs "
            f"[time, envs, {nq}]."
        )
    if goal.shape != (*qpos.shape[:2], task.goal.dim):
        raise UserError(
            f"goals of the shape {goal.shape} cannot be drawn: task {task.name} needs "
            f"[{len(qpos)}, {qpos.shape[1]}, {task.goal.dim}]."
        )
    if np.shape(reached) != qpos.shape[:2]:
        raise UserError(
            f"reached has the shape {np.shape(reached)}; these positions need {qpos.shape[:2]}."
        )
    if not (np.isfinite(qpos).all() and np.isfinite(goal).all()):
        raise UserError("positions or goals that are not finite cannot be drawn.")
    if size < 16 or every < 1:
        raise UserError(
            f"size = {size} and every = {every} are not allowed: an environment needs at least 16 "
            "pixels and a frame at least 1 control step."
        )


def freeze_after_termination(qpos: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Positions `[time, envs, nq]`; each environment keeps its last position after termination.

    alive `[time, envs]`: whether the episode has not yet terminated.
    """
    last = np.maximum(alive.sum(0) - 1, 0)
    times = np.minimum(np.arange(len(qpos))[:, None], last[None])
    return np.take_along_axis(qpos, times[..., None], axis=0)


def _tile(images: list[np.ndarray]) -> np.ndarray:
    """Images `[height, width, 3]` in an almost square grid with white gaps."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full(shape, WHITE, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames `[frames, height, width, 3]` uint8; the suffix chooses the format.

    `.mp4` (H.264) and `.gif` play in every browser. `.png` shows `STILL_FRAMES` frames in a grid,
    the first and the last included. H.264 needs even sides, so an odd side is padded by one pixel.
    Raises UserError for another suffix, invalid frames, or a file that cannot be written.
    """
    require_video_suffix(path)
    if frames.ndim != 4 or frames.shape[3] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise UserError(
            f"frames must be [frames, height, width, 3] of uint8, not {frames.shape} of "
            f"{frames.dtype}."
        )
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, f".writing.{path.name}") as temporary:
        WRITERS[path.suffix](temporary, frames, fps)


def _write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    padding = [(0, 0), *((0, side % 2) for side in frames.shape[1:3]), (0, 0)]
    frames = np.pad(frames, padding, mode="edge")
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"]
    # Only the yuv420p layout is decoded by every browser; faststart puts the index first.
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", QUALITY, "-movflags", "+faststart"]
    try:
        # Not imageio_ffmpeg.write_frames: it forks, and a fork can deadlock with JAX's threads.
        subprocess.run(
            [ffmpeg_path(), "-y", "-loglevel", "error", *raw, "-i", "-", *coded, str(path)],
            input=frames.tobytes(),
            capture_output=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise UserError(f"cannot write {path}: ffmpeg failed ({reason}).") from error


def ffmpeg_path() -> str:
    """Path of imageio-ffmpeg's ffmpeg program; raises UserError if there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(
            "there is no ffmpeg: install the package imageio-ffmpeg again, or write a .gif instead."
        ) from error


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0
    )


def _write_png(path: Path, frames: np.ndarray, fps: float) -> None:
    del fps
    shown = np.linspace(0, len(frames) - 1, min(STILL_FRAMES, len(frames))).round().astype(int)
    Image.fromarray(_tile(list(frames[shown]))).save(path)


WRITERS = {".mp4": _write_mp4, ".gif": _write_gif, ".png": _write_png}


def require_video_suffix(path: Path) -> None:
    """Raises UserError unless the file's suffix is .mp4, .gif or .png."""
    if path.suffix not in WRITERS:
        raise bad_field("out", str(path), f"a name that ends in {', '.join(WRITERS)}")
