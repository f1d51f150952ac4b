"""Pictures of one environment: Pillow draws point mazes, MuJoCo renders robots off screen."""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from kilolayer.errors import UserError
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.render.style import FAILURE, GRID, INK, PAPER, SUCCESS, WALL, Mark, rgb
from kilolayer.tasks.base import Task, goals_are_positions
from kilolayer.tasks.mazes import Maze

OVERSAMPLING = 2  # Pillow does not antialias; shrinking the picture does
AGENT = "#0072B2"
TRAIL = "#8FBFDD"
POINT_RADIUS = 0.12  # cells; larger than the physical point, so that it is visible
CAMERA_EXTENTS = 1.5  # distance from the model's centre to the camera, in model extents
DISC_HEIGHT = 0.03  # m, height of a disc's centre above the ground
FIELD_OF_VIEW = math.radians(45)  # MuJoCo's default, vertical


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

    scene: what is drawn; the caller fills it with `place` and may add to it. Entering the context
    raises UserError if there is no driver.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int):
        self._model, self._rectangle = model, mujoco.MjrRect(0, 0, width, height)
        self._data, self._option = mujoco.MjData(model), mujoco.MjvOption()

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

    def place(self, qpos: np.ndarray, camera: mujoco.MjvCamera) -> None:
        """Fill the scene with the model at `qpos [nq]`, seen by the camera."""
        model, data = self._model, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        everything = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(model, data, self._option, None, camera, everything, self.scene)

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


class PointScene:
    """A point maze from above: walls, goal, trail and point."""

    def __init__(self, task: Task, size: int, marks: Sequence[Mark]):
        assert task.maze is not None
        self._marks = marks
        self._maze, self._radius = task.maze, task.goal.radius
        cells = np.array(task.maze.walls.shape)
        self._scale = size * OVERSAMPLING / (cells.max() * task.maze.cell_size)
        self._pixels = (_even(size * cells[0] / cells.max()), _even(size * cells[1] / cells.max()))
        self._background = draw_maze(task.maze, self._scale * task.maze.cell_size)

    def draw(self, qpos: np.ndarray, goal: np.ndarray, reached: bool) -> np.ndarray:
        """The picture `[height, width, 3]` after the positions `[time, 2]` so far."""
        image = self._background.copy()
        canvas = ImageDraw.Draw(image)
        discs = [(self._radius, goal, SUCCESS if reached else FAILURE)]
        discs += [(mark.radius, np.array(mark.place), mark.colour) for mark in self._marks]
        # The largest disc is drawn first, so that no disc hides a smaller one.
        for radius, place, fill in sorted(discs, key=lambda disc: -disc[0]):
            self._disc(canvas, place, radius, fill)
        if len(qpos) > 1:
            trail = [tuple(place) for place in self._to_pixels(qpos).tolist()]
            canvas.line(trail, fill=TRAIL, width=2 * OVERSAMPLING, joint="curve")
        self._disc(canvas, qpos[-1], POINT_RADIUS * self._maze.cell_size, AGENT)
        return np.asarray(image.resize(self._pixels, Image.Resampling.BOX))

    def _to_pixels(self, places: np.ndarray) -> np.ndarray:
        """Positions `[..., 2]` as pixels from the left and from the top."""
        pixels = (np.asarray(places) + self._maze.cell_size / 2) * self._scale
        return np.stack([pixels[..., 0], self._background.height - pixels[..., 1]], -1)

    def _disc(
        self, canvas: ImageDraw.ImageDraw, centre: np.ndarray, radius: float, fill: str
    ) -> None:
        x, y = self._to_pixels(centre)
        draw_disc(canvas, x, y, radius * self._scale, fill)


class MujocoScene:
    """A MuJoCo model, rendered off screen; the goal is added to the scene, not to the model."""

    def __init__(self, task: Task, world: MujocoWorld, screen: OffScreen, marks: Sequence[Mark]):
        self._task, self._screen, self._marks = task, screen, marks
        self._model, self._camera = world.model, mujoco.MjvCamera()

    def draw(self, qpos: np.ndarray, goal: np.ndarray, reached: bool) -> np.ndarray:
        """The picture `[height, width, 3]` after the positions `[time, nq]` so far."""
        points = self._task.goal_points(goal)
        self._aim_camera(qpos, points[0])
        self._screen.place(qpos[-1], self._camera)
        for point in points:
            self._show_goal(point, SUCCESS if reached else FAILURE)
        for mark in self._marks:
            # At the goal's height. The smaller disc, mark or goal, is drawn above the larger.
            layer = 2.0 if mark.radius < self._task.goal.radius else 0.5
            place = np.array([*mark.place, points[0][2] + layer * DISC_HEIGHT])
            self._add(mujoco.mjtGeom.mjGEOM_CYLINDER, [mark.radius, 0.01, 0], place, mark.colour)
        return self._screen.render()

    def _aim_camera(self, qpos: np.ndarray, goal: np.ndarray) -> None:
        camera, maze = self._camera, self._task.maze
        if maze is not None:
            rows, columns = maze.walls.shape
            camera.lookat[:] = [*(np.array([rows - 1, columns - 1]) * maze.cell_size / 2), 0]
            camera.azimuth, camera.elevation = 90, -90
            # The tops of the walls are closer to the camera than the ground, so they need more
            # distance.
            half_height = columns * maze.cell_size / 2
            camera.distance = half_height / math.tan(FIELD_OF_VIEW / 2) + maze.cell_size / 2
            return
        if not goals_are_positions(self._task):
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

    def _show_goal(self, place: np.ndarray, colour: str) -> None:
        """Add the success radius to the scene: a disc on the ground, or a ball in space."""
        radius = self._task.goal.radius
        place = np.asarray(place, np.float64)
        if self._task.goal.dim <= 2:
            place = place + np.array([0, 0, DISC_HEIGHT])
            self._add(mujoco.mjtGeom.mjGEOM_CYLINDER, [radius, 0.02, 0], place, colour)
        else:
            self._add(mujoco.mjtGeom.mjGEOM_SPHERE, [radius, 0, 0], place, colour, opacity=0.4)

    def _add(
        self,
        shape: mujoco.mjtGeom,
        size: list[float],
        place: np.ndarray,
        colour: str,
        opacity: float = 1.0,
    ) -> None:
        scene = self._screen.scene
        geom, upright = scene.geoms[scene.ngeom], np.eye(3).ravel()
        rgba = np.array([*rgb(colour), opacity], np.float32)
        mujoco.mjv_initGeom(geom, int(shape), np.array(size), place, upright, rgba)
        geom.emission = 0.2  # visible in any light
        scene.ngeom += 1


@contextmanager
def make_scene(
    task: Task, size: int, marks: Sequence[Mark] = ()
) -> Iterator[MujocoScene | PointScene]:
    """A scene that draws environments of this task.

    size: pixels of the longer side. marks: coloured discs on the ground. Raises UserError for a
    task that cannot be drawn.
    """
    require_drawable(task)
    world = task.world
    if not isinstance(world, MujocoWorld):
        yield PointScene(task, size, marks)
        return
    shape = np.array((1, 1) if task.maze is None else task.maze.walls.shape)
    width, height = (_even(size * side / shape.max()) for side in shape)
    with OffScreen(world.model, width, height) as screen:
        yield MujocoScene(task, world, screen, marks)


def require_drawable(task: Task) -> None:
    """Raises UserError if the task's environments cannot be drawn from their positions."""
    if isinstance(task.world, GymnasiumWorld):
        raise UserError(
            f"task {task.name} cannot be drawn from a recording: step the environment yourself, "
            "made by gymnasium.make with render_mode='rgb_array', with the run's policy "
            "(`kilolayer.load(RUN).policy`), and call its render."
        )
    if task.maze is None and not isinstance(task.world, MujocoWorld):
        raise UserError(f"task {task.name} cannot be drawn: it has no maze and no MuJoCo model.")


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))
