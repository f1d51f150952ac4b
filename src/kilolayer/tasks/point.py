"""Point mazes: a point mass must find its way around walls. Pure JAX, for quick experiments."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.kinematic import PointWorld
from kilolayer.tasks.base import Coordinate, GoalSpec, GoalSplit, Task
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

EPISODE_LENGTHS = {
    "u": 200, "big": 400, "hardest": 600, "spiral": 1000,
    "medium": 1000, "large": 1000, "giant": 1000,
}  # fmt: skip

# Starts and goals lie at most this far from their cell's centre, in cells.
CELL_NOISE = 0.25


@dataclass(frozen=True)
class PointMaze(Task):
    """Observation: x, y and velocity. Goal: x, y within half a cell."""

    layout: str

    @property
    def name(self) -> str:
        return f"point_{self.layout}_maze"

    @property
    def maze(self) -> Maze:
        return Maze(self.layout, cell_size=1.0)

    @property
    def world(self) -> PointWorld:
        return PointWorld(walls=tuple(tuple(bool(wall) for wall in row) for row in self.maze.walls))

    observation = (
        Coordinate("x", "cell"),
        Coordinate("y", "cell"),
        Coordinate("x velocity", "cell/s"),
        Coordinate("y velocity", "cell/s"),
    )
    goal = GoalSpec((Coordinate("x", "cell"), Coordinate("y", "cell")), radius=0.5, easy_radius=1.0)
    action_dim = 2
    splits: tuple[GoalSplit, ...] = ("evaluation", "training")

    @property
    def episode_length(self) -> int:
        return EPISODE_LENGTHS[self.layout]

    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        if len(self.maze.tasks):
            return self.maze.sample_task_start(key, goal, split), jnp.zeros(goal.shape)
        noise = jax.random.uniform(key, goal.shape, minval=-CELL_NOISE, maxval=CELL_NOISE)
        return jnp.asarray(self.maze.start, jnp.float32) + noise, jnp.zeros(goal.shape)

    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        return self.maze.sample_goal(key, num_envs, split, CELL_NOISE)

    def observe(self, state: PhysicsState) -> Array:
        return jnp.concatenate([state.qpos, state.qvel], -1)

    def achieved_goal(self, state: PhysicsState) -> Array:
        return state.qpos

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        """speed: mean, cells per second."""
        steps = np.linalg.norm(np.diff(qpos, axis=0), axis=-1)
        seconds = max(1, steps.size) * self.world.control_step
        return {"speed": float(steps.sum() / seconds)}
