"""What legged bodies share: mazes, falls, and measures of their movement.

A score alone does not show how a body moves, so it is measured from recorded positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Coordinate, GoalSplit, Task
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

UPRIGHT = 0.5  # cosine of the tilt; a body below it counts as lying
EVERY = 10  # control steps between two counts of contacts


@dataclass(frozen=True)
class Legged(Task):
    """A body whose torso has a free joint, on open ground or in a maze.

    layout: a maze's name, or None for open ground.
    """

    layout: str | None = None

    world: ClassVar[MujocoWorld]
    """The body on its ground, with the walls of its maze if there is one."""
    body: ClassVar[str]
    cell_size: ClassVar[float]
    """Side of a maze's cell, m."""
    healthy_height: ClassVar[tuple[float, float] | None] = None
    """Lowest and highest torso height, m; outside, the episode ends. None: it never ends early."""

    @property
    def name(self) -> str:
        return self.body if self.layout is None else f"{self.body}_{self.layout}_maze"

    @property
    def maze(self) -> Maze | None:
        return None if self.layout is None else Maze(self.layout, self.cell_size)

    @property
    def splits(self) -> tuple[GoalSplit, ...]:
        return ("evaluation",) if self.maze is None else ("evaluation", "training")

    def terminated(self, state: PhysicsState) -> Array:
        if self.healthy_height is None:
            return super().terminated(state)
        low, high = self.healthy_height
        height = state.qpos[:, 2]
        return (height < low) | (height > high)

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        x, y = qpos[..., 4], qpos[..., 5]
        upright = 1 - 2 * (np.square(x) + np.square(y))  # vertical part of the torso's own z axis
        return movement(self.world, qpos, alive, qpos[..., :2], qpos[..., 2], upright)


def free_body(joints: Sequence[str]) -> tuple[Coordinate, ...]:
    """The coordinates of `qpos`, then of `qvel`: a torso with a free joint, and hinges."""
    pairs = [(axis, "m") for axis in "xyz"] + [(f"quaternion {part}", "1") for part in "wxyz"]
    pairs += [(joint, "rad") for joint in joints]
    pairs += [(f"{axis} velocity", "m/s") for axis in "xyz"]
    pairs += [(f"angular velocity {axis}", "rad/s") for axis in "xyz"]
    pairs += [(f"{joint} velocity", "rad/s") for joint in joints]
    return tuple(Coordinate(*pair) for pair in pairs)


def movement(
    world: MujocoWorld,
    qpos: np.ndarray,
    alive: np.ndarray,
    position: np.ndarray,
    height: np.ndarray,
    upright: np.ndarray,
) -> dict[str, float]:
    """Measures of how a body moves; steps after the end of an episode do not count.

    qpos `[time, envs, nq]`. position `[time, envs, axes]`: over the ground, m. height, upright
    `[time, envs]`: of the torso, m; cosine of its tilt.

    torso_height: mean, m. upright_share: of all steps. speed: mean over the ground, m/s. contacts:
    mean number at once. falls: share of episodes that ended early.
    """
    both = alive[1:] & alive[:-1]
    moved = np.linalg.norm(np.diff(position, axis=0), axis=-1) / world.control_step
    return {
        "torso_height": _mean(height, alive),
        "upright_share": _mean(upright > UPRIGHT, alive),
        "speed": _mean(moved, both),
        "contacts": _mean(_contacts(world.model, qpos[::EVERY]), alive[::EVERY]),
        "falls": 1.0 - float(alive[-1].mean()),
    }


def _contacts(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Number of contacts at once, `[time, envs]`, for `qpos [time, envs, nq]`."""
    data = mujoco.MjData(model)
    counts = np.zeros(qpos.shape[:2])
    for index in np.ndindex(*counts.shape):
        data.qpos[:] = qpos[index]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        counts[index] = data.ncon
    return counts


def _mean(values: np.ndarray, counted: np.ndarray) -> float:
    """Mean of the values that count; 0 if none does."""
    return float(values[counted].mean()) if counted.any() else 0.0
