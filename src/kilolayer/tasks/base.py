"""What a task is: a world, an observation, a goal space, resets and success.

Everything is batched over worlds and written once in jax.numpy, whatever the engine.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import jax.numpy as jnp

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import World
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array, UserError

# Goals commanded while training, and the goals of the headline evaluation. Where a task has no
# separate evaluation goals both splits draw from the same distribution.
GoalSplit = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Coordinate:
    """One number of an observation or a goal, with its unit."""

    name: str
    unit: str


@dataclass(frozen=True)
class GoalSpec:
    """The coordinates of a goal; a step is a success within `radius` of it (same unit)."""

    coordinates: tuple[Coordinate, ...]
    radius: float
    easy_radius: float

    @property
    def dim(self) -> int:
        return len(self.coordinates)


class Task(Protocol):
    """A goal-reaching task. Implementations are frozen values; all functions are pure.

    splits: the goal splits that differ, headline first. episode_length: control steps.
    maze: the maze the task plays in, or None; it serves path lengths and pictures only.
    """

    @property
    def name(self) -> str: ...
    @property
    def world(self) -> World: ...
    @property
    def observation(self) -> tuple[Coordinate, ...]: ...
    @property
    def goal(self) -> GoalSpec: ...
    @property
    def action_dim(self) -> int: ...
    @property
    def episode_length(self) -> int: ...
    @property
    def splits(self) -> tuple[GoalSplit, ...]: ...
    @property
    def maze(self) -> Maze | None: ...

    def reset(self, key: Array, num_worlds: int) -> tuple[Array, Array]:
        """Starting `qpos [worlds, nq]` and `qvel [worlds, nv]`."""
        ...

    def sample_goal(self, key: Array, num_worlds: int, split: GoalSplit) -> Array:
        """Goals to command, `[worlds, goal]`."""
        ...

    def observe(self, state: PhysicsState) -> Array:
        """What the agent senses, `[worlds, observation]`; the goal is not part of it."""
        ...

    def achieved_goal(self, state: PhysicsState) -> Array:
        """The part of the state that goals speak of, `[worlds, goal]`."""
        ...

    def terminated(self, state: PhysicsState) -> Array:
        """Whether the episode ends before its time, `[worlds]` booleans."""
        ...


def goal_distance(achieved: Array, goal: Array) -> Array:
    """Euclidean distance in goal space, `[..., goal] -> [...]`."""
    return jnp.linalg.norm(achieved - goal, axis=-1)


def is_success(task: Task, achieved: Array, goal: Array) -> Array:
    """Whether `achieved [..., goal]` lies within the task's success radius of `goal`."""
    return goal_distance(achieved, goal) < task.goal.radius


def parse_goal(task: Task, text: str) -> tuple[float, ...]:
    """A goal given by hand, such as `8,0`.

    Raises UserError if it is not one finite number per goal coordinate.
    """
    names = ", ".join(f"{c.name} ({c.unit})" for c in task.goal.coordinates)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != task.goal.dim or not all(map(math.isfinite, values)):
        raise UserError(
            f"goal = {text!r} is not allowed: task {task.name} takes {task.goal.dim} numbers "
            f"separated by commas, {names}."
        )
    return values
