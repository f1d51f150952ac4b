"""The plane that a task plays on, as a person sees it from above and points at it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import jax
import mujoco
import numpy as np

from kilolayer.analysis.value_map import OPEN_MARGIN
from kilolayer.physics.build import World
from kilolayer.physics.kinematic import PointWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Task, goals_are_places
from kilolayer.types import UserError

# A goal that is moved out of a wall keeps this far from it, in cells: so do goals of training.
WALL_CLEARANCE = 0.25
# Of the shorter side of the ground: what is drawn of a body whose shape is not known.
DOT = 0.01


@dataclass(frozen=True)
class Ground:
    """What is shown, and which places can be goals.

    bounds: lowest x and y, highest x and y, in the goal's unit. template `[goal]`: what goals hold
    beside x and y, such as a height.
    """

    task: Task
    bounds: tuple[float, float, float, float]
    template: np.ndarray

    @staticmethod
    def of(task: Task) -> "Ground":
        """Raises UserError unless goals are places that x and y alone tell apart."""
        if not goals_are_places(task):
            names = ", ".join(coordinate.name for coordinate in task.goal.coordinates)
            raise UserError(
                f"task {task.name} has no ground to click on: its goals are {names}, not places x, "
                "y; `kilolayer play` films it."
            )
        goals = np.asarray(task.sample_goal(jax.random.key(0), 256, "evaluation"))
        if np.ptp(goals[:, 2:], axis=0).any():
            raise UserError(
                f"task {task.name} has goals of {task.goal.dim} numbers, and a click on the ground "
                "gives x and y alone; `kilolayer play --goal` takes all of them."
            )
        if task.maze is None:
            half = OPEN_MARGIN * float(np.linalg.norm(goals[:, :2], axis=-1).max())
            return Ground(task, (-half, -half, half, half), goals[0])
        low = -task.maze.cell_size / 2
        high = (np.array(task.maze.walls.shape) * task.maze.cell_size + low).tolist()
        return Ground(task, (low, low, high[0], high[1]), goals[0])

    @property
    def walls(self) -> list[tuple[float, float, float, float]]:
        """Rectangles: lowest x, lowest y, width, height."""
        rectangles = [] if self.task.maze is None else self.task.maze.wall_rectangles
        return [(x - w, y - h, 2 * w, 2 * h) for x, y, w, h in rectangles]

    @property
    def size(self) -> np.ndarray:
        """Width and height."""
        return np.array(self.bounds[2:]) - np.array(self.bounds[:2])

    def nearest(self, place: np.ndarray) -> np.ndarray:
        """The nearest place that can be a goal, `[2]`: in a maze one that a way leads to."""
        maze = self.task.maze
        if maze is None:
            return np.clip(place, self.bounds[:2], self.bounds[2:])
        if maze.path_lengths_between(maze.start, place) >= 0:
            return place
        cells = maze.free_cells
        cells = cells[maze.path_lengths_between(maze.start, cells) >= 0]
        half = (0.5 - WALL_CLEARANCE) * maze.cell_size
        inside = np.clip(place, cells - half, cells + half)
        return inside[np.linalg.norm(inside - place, axis=-1).argmin()]

    def goal(self, place: np.ndarray) -> np.ndarray:
        """The goal `[goal]` of being at a place `[2]`."""
        goal = np.array(self.template, np.float32)
        goal[:2] = place
        return goal

    def axes(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions along x and along y: centres of the square pixels of a picture of the ground.

        resolution: pixels along the longer side, rounded up to a whole number per cell of a maze.
        """
        cells = np.ones(2) if self.task.maze is None else np.array(self.task.maze.walls.shape)
        count = (-(-resolution // cells.max()) * cells).astype(int)
        x, y = (
            low + (np.arange(pixels) + 0.5) * side / pixels
            for low, pixels, side in zip(self.bounds[:2], count, self.size, strict=True)
        )
        return x, y


# (qpos [nq], achieved goal [goal]) -> line segments (x, y, x, y, radius), seen from above
Outline = Callable[[np.ndarray, np.ndarray], list[list[float]]]


def outline(world: World, ground: Ground) -> Outline:
    """What draws the bodies that move, lowest first."""
    if isinstance(world, MujocoWorld):
        return _bodies(world.model)
    radius = world.radius if isinstance(world, PointWorld) else DOT * float(ground.size.min())
    return lambda qpos, achieved: [[*achieved[:2], *achieved[:2], radius]]


def heading(world: World, qpos: np.ndarray) -> list[float] | None:
    """Where the x axis of a body on a free joint points, seen from above, a vector of at most 1."""
    if not isinstance(world, MujocoWorld) or not world.model.njnt:
        return None
    if int(world.model.jnt_type[0]) != int(mujoco.mjtJoint.mjJNT_FREE):
        return None
    w, x, y, z = qpos[3:7]
    return [1 - 2 * (y * y + z * z), 2 * (x * y + w * z)]


def _bodies(model: Any) -> Outline:
    data = mujoco.MjData(model)
    long = (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_CYLINDER))
    moving = [
        geom
        for geom in range(model.ngeom)
        if model.body_weldid[model.geom_bodyid[geom]] != 0 and model.geom_rgba[geom, 3] > 0
    ]

    def draw(qpos: np.ndarray, achieved: np.ndarray) -> list[list[float]]:
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        segments = []
        for geom in sorted(moving, key=lambda geom: data.geom_xpos[geom, 2]):
            centre, half, radius = data.geom_xpos[geom, :2], np.zeros(2), model.geom_rbound[geom]
            if int(model.geom_type[geom]) in long:
                radius, length = model.geom_size[geom, :2]
                half = data.geom_xmat[geom].reshape(3, 3)[:2, 2] * length
            segments.append([*(centre - half), *(centre + half), radius])
        return segments

    return draw
