"""Pictures of a task at its start, from above, with coloured markers.

The environment is drawn once, in grey, so that only markers have colour. Pillow draws point mazes;
MuJoCo renders all other tasks through an orthographic camera. Pillow then draws the markers on top,
so that no arm hides a marker.
"""

from collections.abc import Sequence
from functools import cache

import jax
import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from kilolayer.language.base import PICTURE_SIZE, Marker
from kilolayer.language.board import Board, board_of
from kilolayer.physics.native import MujocoWorld
from kilolayer.render.scene import OffScreen, draw_disc, draw_maze
from kilolayer.render.style import INK, PAPER
from kilolayer.tasks.base import Task

COLOURS = {
    "red": "#D81818",
    "green": "#10A040",
    "blue": "#2050F0",
    "yellow": "#FFE820",
    "purple": "#A030C0",
    "orange": "#FF7A00",
}
LINE_ON_WHITE, LINE_ON_GREY = "#B0B8C2", "#585858"  # between squares
OVERSAMPLING = 2  # Pillow draws hard edges; shrinking smooths them
MARKER_RADIUS = 0.34  # in units of a square's shorter side
AGENT_RADIUS = 0.2
CAMERA_HEIGHT = 50.0  # m, above every object


def draw_pictures(
    task: Task, markers: Sequence[tuple[Marker, ...]], size: int = PICTURE_SIZE
) -> np.ndarray:
    """One picture for each row of markers, `[rows, size, size, 3]`, uint8; x to the right, y up.

    Raises UserError for a task without instructions, or where MuJoCo is needed and cannot render.
    """
    background, board = _background(task, size), board_of(task)
    radius = MARKER_RADIUS * min(board.step) / board.side * background.width
    pictures = np.empty((len(markers), size, size, 3), np.uint8)
    for picture, row in zip(pictures, markers, strict=True):
        image = background.copy()
        canvas = ImageDraw.Draw(image)
        for marker in row:
            x, y = to_pixels(board, marker.place, background.width)
            draw_disc(canvas, x, y, radius, COLOURS[marker.colour])
        picture[:] = np.asarray(image.resize((size, size), Image.Resampling.BOX))
    return pictures


def to_pixels(board: Board, place: Sequence[float], size: int) -> tuple[float, float]:
    """A place x, y in a picture, in pixels from the left and from the top edge."""
    scale = size / board.side
    return (place[0] - board.corner[0]) * scale, size - (place[1] - board.corner[1]) * scale


@cache
def _background(task: Task, size: int) -> Image.Image:
    """The picture without markers, oversampled."""
    board, pixels = board_of(task), size * OVERSAMPLING
    if isinstance(task.world, MujocoWorld):
        image = _render(task, board, pixels)
        _outline_squares(image, board, LINE_ON_GREY)
        return image
    assert task.maze is not None
    image = Image.new("RGB", (pixels, pixels), PAPER)
    size_of_cell = task.maze.cell_size
    drawn = draw_maze(task.maze, pixels * size_of_cell / board.side)
    left, bottom = to_pixels(board, (-size_of_cell / 2, -size_of_cell / 2), pixels)
    image.paste(drawn, (round(left), round(bottom) - drawn.height))
    _outline_squares(image, board, LINE_ON_WHITE)
    x, y = to_pixels(board, task.maze.start.tolist(), pixels)
    draw_disc(ImageDraw.Draw(image), x, y, AGENT_RADIUS * size_of_cell / board.side * pixels, INK)
    return image


def _outline_squares(image: Image.Image, board: Board, colour: str) -> None:
    """Outline the squares without a wall."""
    canvas = ImageDraw.Draw(image)
    for cell in board.free:
        centre = board.centre(cell)
        left, top = to_pixels(board, board.moved(centre, -0.5, 0.5), image.width)
        right, bottom = to_pixels(board, board.moved(centre, 0.5, -0.5), image.width)
        canvas.rectangle((left, top, right, bottom), outline=colour)


def _render(task: Task, board: Board, pixels: int) -> Image.Image:
    """Render the task's environment in grey, always at the same start."""
    goal_key, reset_key = jax.random.key(1), jax.random.key(0)
    goal = task.sample_goal(goal_key, 1, "evaluation")
    qpos, _ = task.reset(reset_key, goal, "evaluation")
    assert isinstance(task.world, MujocoWorld)
    with OffScreen(task.world.model, pixels, pixels) as screen:
        screen.place(np.asarray(qpos[0]), mujoco.MjvCamera())
        look_down(screen.scene, board)
        rendered = screen.render()
    return ImageOps.autocontrast(Image.fromarray(rendered).convert("L")).convert("RGB")


def look_down(scene: mujoco.MjvScene, board: Board) -> None:
    """Point the scene's camera at the board: straight down, parallel rays, y up."""
    half = board.side / 2
    for eye in scene.camera:
        eye.pos[:] = [board.corner[0] + half, board.corner[1] + half, CAMERA_HEIGHT]
        eye.forward[:], eye.up[:] = [0, 0, -1], [0, 1, 0]
        eye.orthographic, eye.frustum_center = 1, 0
        eye.frustum_width, eye.frustum_bottom, eye.frustum_top = half, -half, half
        eye.frustum_near, eye.frustum_far = 1.0, 2 * CAMERA_HEIGHT
