"""Drawing for pictures of a task: a maze from above, and MuJoCo off screen."""

import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from kilolayer.tasks.mazes import Maze
from kilolayer.types import UserError

INK, PAPER, WALL, GRID = "#1B1F24", "#FFFFFF", "#6B7785", "#E3E6EA"


def draw_maze(maze: Maze, cell: float) -> Image.Image:
    """A picture of walls and free cells, `cell` pixels a side; x runs to the right, y up."""
    across, up = maze.walls.shape
    image = Image.new("RGB", (round(across * cell), round(up * cell)), PAPER)
    canvas = ImageDraw.Draw(image)
    for part, half, fill in ((False, 0.5, GRID), (False, 0.49, PAPER), (True, 0.5, WALL)):
        for column, row in np.argwhere(maze.walls == part):
            x, y = (column + 0.5) * cell, image.height - (row + 0.5) * cell
            reach = half * cell
            canvas.rectangle((x - reach, y - reach, x + reach, y + reach), fill=fill)
    return image


def draw_disc(canvas: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: str) -> None:
    """Draw a disc with a thin outline; all in pixels from the left and from the top."""
    canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=INK)


class OffScreen:
    """MuJoCo's renderer for one model and one size of picture, without a window.

    scene: what is drawn; the caller fills it and may add to it. Entering the context raises
    UserError if there is no driver.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self._model, self._rectangle = model, mujoco.MjrRect(0, 0, width, height)

    def __enter__(self) -> Self:
        width, height = self._rectangle.width, self._rectangle.height
        try:
            self._window: Any = context_class()(width, height)
            self._window.make_current()
            self.scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 100)
            self.scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = 0
            self.scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = 0
            font = int(mujoco.mjtFontScale.mjFONTSCALE_100)
            self._render = mujoco.MjrContext(self._model, font)
            mujoco.mjr_resizeOffscreen(width, height, self._render)
            mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._render)
        # Every missing driver fails in a way of its own: ImportError, AttributeError, GLError, ...
        except Exception as error:
            raise UserError(
                f"this machine cannot render MuJoCo ({type(error).__name__}: {error}). An "
                "off-screen driver is needed: EGL (package libegl1), or OSMesa (package "
                "libosmesa6, with MUJOCO_GL=osmesa)."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._render.free()
        self._window.free()

    def render(self) -> np.ndarray:
        """A picture of the scene as it is now, `[height, width, 3]` uint8."""
        self._window.make_current()  # another scene may have been drawn in between
        mujoco.mjr_render(self._rectangle, self.scene, self._render)
        pixels = np.empty((self._rectangle.height, self._rectangle.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._render)
        return pixels[::-1]  # OpenGL counts rows from below


def context_class() -> Any:
    """The OpenGL context to render in: EGL on Linux unless MUJOCO_GL says otherwise.

    MuJoCo reads MUJOCO_GL at its first import, long before anything is rendered. So setting the
    variable here would have no effect.
    """
    _load_triton()
    headless = sys.platform == "linux" and not os.environ.get("MUJOCO_GL")
    return import_module("mujoco.egl" if headless else "mujoco.gl_context").GLContext


def _load_triton() -> None:
    """Load Triton, which PyTorch may bring along, before the first OpenGL context.

    After a context of Mesa's software driver, which has an LLVM of its own as Triton has, loading
    Triton ends the process with a segmentation fault (seen with Triton 3.7.1).
    """
    if "triton" not in sys.modules and find_spec("triton") is not None:
        with suppress(Exception):  # a broken installation is not needed here
            import_module("triton")
