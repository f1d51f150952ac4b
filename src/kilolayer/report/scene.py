"""One world seen by a camera: points drawn with Pillow, bodies rendered by MuJoCo off screen."""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import math
import os
import sys
from importlib import import_module
from typing import Any, Self

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from kilolayer.physics.native import MujocoWorld
from kilolayer.report.style import FAILURE, GRID, INK, PAPER, SUCCESS, WALL, rgb
from kilolayer.tasks.base import Task, goals_are_places
from kilolayer.types import UserError

OVERSAMPLING = 2  # Pillow draws hard edges; shrinking smooths them
AGENT = "#0072B2"
TRAIL = "#8FBFDD"
POINT_RADIUS = 0.12  # cells, a little more than the point's own, to be seen
CAMERA_EXTENTS = 1.5  # from the middle of a model to the camera, in the model's extent
FIELD_OF_VIEW = math.radians(45)  # MuJoCo's default, vertical


class PointScene:
    """A point in its maze from above: walls, goal, trail and point."""

    def __init__(self, task: Task, size: int):
        assert task.maze is not None
        self._maze, self._radius = task.maze, task.goal.radius
        cells = np.array(task.maze.walls.shape)
        self._scale = size * OVERSAMPLING / (cells.max() * task.maze.cell_size)
        self._pixels = (_even(size * cells[0] / cells.max()), _even(size * cells[1] / cells.max()))
        self._background = self._draw_background()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def draw(self, qpos: np.ndarray, goal: np.ndarray, reached: bool) -> np.ndarray:
        """The picture `[height, width, 3]` after the positions `[time, 2]` so far."""
        image = self._background.copy()
        canvas = ImageDraw.Draw(image)
        self._disc(canvas, goal, self._radius, SUCCESS if reached else FAILURE)
        if len(qpos) > 1:
            trail = [tuple(place) for place in self._to_pixels(qpos).tolist()]
            canvas.line(trail, fill=TRAIL, width=2 * OVERSAMPLING, joint="curve")
        self._disc(canvas, qpos[-1], POINT_RADIUS * self._maze.cell_size, AGENT)
        return np.asarray(image.resize(self._pixels, Image.Resampling.BOX))

    def _draw_background(self) -> Image.Image:
        width, height = self._pixels
        image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), PAPER)
        canvas = ImageDraw.Draw(image)
        for row, column in np.argwhere(~self._maze.walls):
            self._box(canvas, np.array([row, column]) * self._maze.cell_size, 0.5, GRID)
            self._box(canvas, np.array([row, column]) * self._maze.cell_size, 0.49, PAPER)
        for row, column in np.argwhere(self._maze.walls):
            self._box(canvas, np.array([row, column]) * self._maze.cell_size, 0.5, WALL)
        return image

    def _to_pixels(self, places: np.ndarray) -> np.ndarray:
        """Positions `[..., 2]` as pixels from the left and from the top."""
        pixels = (np.asarray(places) + self._maze.cell_size / 2) * self._scale
        return np.stack([pixels[..., 0], self._background_height - pixels[..., 1]], -1)

    @property
    def _background_height(self) -> int:
        return self._pixels[1] * OVERSAMPLING

    def _box(self, canvas: ImageDraw.ImageDraw, centre: np.ndarray, half: float, fill: str) -> None:
        half = half * self._maze.cell_size
        left, bottom = self._to_pixels(centre - half)
        right, top = self._to_pixels(centre + half)
        canvas.rectangle((left, top, right, bottom), fill=fill)

    def _disc(
        self, canvas: ImageDraw.ImageDraw, centre: np.ndarray, radius: float, fill: str
    ) -> None:
        x, y = self._to_pixels(centre)
        half = radius * self._scale
        canvas.ellipse((x - half, y - half, x + half, y + half), fill=fill, outline=INK)


class MujocoScene:
    """A MuJoCo world, rendered off screen; the goal is added to the picture, not to the model."""

    def __init__(self, task: Task, size: int):
        assert isinstance(task.world, MujocoWorld)
        self._task = task
        self._model = task.world.model
        self._data = mujoco.MjData(self._model)
        shape = np.array((1, 1) if task.maze is None else task.maze.walls.shape)
        self._width, self._height = (_even(size * side / shape.max()) for side in shape)
        self._rectangle = mujoco.MjrRect(0, 0, self._width, self._height)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()

    def __enter__(self) -> Self:
        try:
            self._window: Any = _context_class()(self._width, self._height)
            self._window.make_current()
            self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 100)
            self._scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = 0
            self._scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = 0
            font = int(mujoco.mjtFontScale.mjFONTSCALE_100)
            self._render = mujoco.MjrContext(self._model, font)
            mujoco.mjr_resizeOffscreen(self._width, self._height, self._render)
            mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._render)
        # Every missing driver fails in a way of its own: ImportError, AttributeError, GLError, ...
        except Exception as error:
            raise UserError(
                f"this machine cannot render MuJoCo ({type(error).__name__}: {error}). An "
                "off-screen driver is needed: EGL (package libegl1), or MUJOCO_GL=osmesa."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._render.free()
        self._window.free()

    def draw(self, qpos: np.ndarray, goal: np.ndarray, reached: bool) -> np.ndarray:
        """The picture `[height, width, 3]` after the positions `[time, nq]` so far."""
        self._window.make_current()  # another scene may have been drawn in between
        self._data.qpos[:] = qpos[-1]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        points = self._task.goal_points(goal)
        self._aim(qpos, points[0])
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, everything, self._scene
        )
        for point in points:
            self._mark(point, SUCCESS if reached else FAILURE)
        mujoco.mjr_render(self._rectangle, self._scene, self._render)
        pixels = np.empty((self._height, self._width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._render)
        return pixels[::-1]  # OpenGL counts rows from below

    def _aim(self, qpos: np.ndarray, goal: np.ndarray) -> None:
        camera, maze = self._camera, self._task.maze
        if maze is not None:
            rows, columns = maze.walls.shape
            camera.lookat[:] = [*(np.array([rows - 1, columns - 1]) * maze.cell_size / 2), 0]
            camera.azimuth, camera.elevation = 90, -90
            # The walls' tops are nearer than the ground: leave room for them.
            half_height = columns * maze.cell_size / 2
            camera.distance = half_height / math.tan(FIELD_OF_VIEW / 2) + maze.cell_size / 2
            return
        if not goals_are_places(self._task):
            model = self._model
            camera.lookat[:] = model.stat.center
            camera.azimuth = model.vis.global_.azimuth
            camera.elevation = model.vis.global_.elevation
            camera.distance = CAMERA_EXTENTS * model.stat.extent
            return
        forward, gap = goal[:2] - qpos[0, :2], goal[:2] - qpos[-1, :2]
        camera.lookat[:] = [*(qpos[-1, :2] + gap / 2), 0]
        camera.azimuth = math.degrees(math.atan2(forward[1], forward[0]))
        camera.elevation = -45
        camera.distance = 5 + 1.4 * float(np.linalg.norm(gap))

    def _mark(self, place: np.ndarray, colour: str) -> None:
        """Add the success radius to the scene: a disc on the ground, or a ball in space."""
        geom = self._scene.geoms[self._scene.ngeom]
        radius = self._task.goal.radius
        place = np.asarray(place, np.float64)
        if self._task.goal.dim <= 2:
            shape, size, opacity = mujoco.mjtGeom.mjGEOM_CYLINDER, [radius, 0.02, 0], 1.0
            place = place + np.array([0, 0, 0.03])
        else:
            shape, size, opacity = mujoco.mjtGeom.mjGEOM_SPHERE, [radius, 0, 0], 0.4
        mujoco.mjv_initGeom(
            geom,
            int(shape),
            np.array(size),
            place,
            np.eye(3).ravel(),
            np.array([*rgb(colour), opacity], np.float32),
        )
        geom.emission = 0.2  # seen in its own colour whatever the light
        self._scene.ngeom += 1


def _context_class() -> Any:
    """The OpenGL context to render in: EGL on Linux unless MUJOCO_GL says otherwise.

    MuJoCo reads MUJOCO_GL when it is first imported, which is long before anyone renders, so
    setting the variable here would come too late.
    """
    headless = sys.platform == "linux" and not os.environ.get("MUJOCO_GL")
    return import_module("mujoco.egl" if headless else "mujoco.gl_context").GLContext


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))
