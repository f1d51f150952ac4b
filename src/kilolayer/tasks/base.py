"""The interface of a task: world, observation, goal space, resets and success.

Everything is batched over environments and written once in jax.numpy, for every engine.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kilolayer.errors import UserError
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import World
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

# `training`: goals commanded while training. `evaluation`: goals of the headline evaluation. A task
# without separate evaluation goals uses one distribution for both.
GoalSplit = Literal["training", "evaluation"]
MAX_GOAL = 1e10  # MuJoCo's limit of a state
RESET_NOISE = 0.1


@dataclass(frozen=True)
class Coordinate:
    """One number of an observation or a goal, with its unit."""

    name: str
    unit: str


@dataclass(frozen=True)
class GoalSpec:
    """The coordinates of a goal; a step is a success within `radius` of it (same unit).

    hard_radius: radius of a stricter score, if the benchmark has one.
    """

    coordinates: tuple[Coordinate, ...]
    radius: float
    easy_radius: float
    hard_radius: float | None = None

    @property
    def dim(self) -> int:
        return len(self.coordinates)


class Task(ABC):
    """A goal-reaching task. Tasks are frozen values; all functions are pure.

    Every task must define the attributes without a value and the abstract functions. Most tasks
    keep the defaults of the others. A property may replace any attribute.
    """

    name: str
    """The task's name on the command line."""
    world: World
    """The model that the engine steps."""
    observation: tuple[Coordinate, ...]
    """The coordinates of an observation."""
    goal: GoalSpec
    """The coordinates of a goal, and the radius within which it counts as reached."""
    action_dim: int
    """Control coordinates, each in [-1, 1]."""
    episode_length: int
    """Control steps of an episode that does not end early."""

    splits: tuple[GoalSplit, ...] = ("evaluation",)
    """The goal splits that differ, headline first."""

    maze: Maze | None = None
    """The maze of the task. It is used only for path lengths, pictures and language."""

    goal_box: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Lowest and highest corner `[goal]` of the goals if they fill a box. It is used only for
    pictures and language."""

    fingerprint: dict[str, str] | None = None
    """SHA-256 of what a file of the user's own describes, and the version of the library that read
    it, for the run's manifest."""

    @abstractmethod
    def sample_goal(self, key: Array, num_envs: int, split: GoalSplit) -> Array:
        """Goals to command, `[envs, goal]`."""

    @abstractmethod
    def reset(self, key: Array, goal: Array, split: GoalSplit) -> tuple[Array, Array]:
        """Initial `qpos [envs, nq]` and `qvel [envs, nv]` of environments with this commanded goal.

        goal `[envs, goal]`: some starts depend on it, such as that of an object between the agent
        and the goal.
        """

    @abstractmethod
    def observe(self, state: PhysicsState) -> Array:
        """The observation, `[envs, observation]`. It does not contain the goal."""

    @abstractmethod
    def achieved_goal(self, state: PhysicsState) -> Array:
        """The achieved goal: the goal coordinates of the state, `[envs, goal]`."""

    def has_changed(self, recorded: Any) -> bool:
        """Whether a recorded fingerprint is of another file's content.

        False if it cannot be told: nothing was recorded, or another version of the library read it.
        """
        if self.fingerprint is None or not isinstance(recorded, dict):
            return False
        unlike = {name for name, value in self.fingerprint.items() if recorded.get(name) != value}
        return unlike == {"sha256"}

    def terminated(self, state: PhysicsState) -> Array:
        """Whether the episode ends before its episode length, `[envs]` booleans."""
        return jnp.zeros(state.qpos.shape[0], bool)

    def truncated(self, state: PhysicsState) -> Array:
        """Whether the episode is cut off without terminating, `[envs]` booleans.

        The continuation is unknown, so agents do not learn from such an end.
        """
        return jnp.zeros(state.qpos.shape[0], bool)

    def current_goal(self, state: PhysicsState, goal: Array) -> Array:
        """The goal at this control step, `[envs, goal]`. A goal on an object moves with it."""
        return goal

    def distance(self, achieved: Array, goal: Array) -> Array:
        """Distance from a goal, `[..., goal] -> [...]`; within the radius the goal is reached."""
        return jnp.linalg.norm(achieved - goal, axis=-1)

    def goal_points(self, goal: np.ndarray) -> np.ndarray:
        """Where a picture marks a `goal [goal]`, `[points, 3]` in m: x, y, and z if given."""
        return np.pad(goal[:3], (0, max(0, 3 - len(goal))))[None]

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        """Measures of how the agent moves, by name, in addition to its score.

        qpos `[time, envs, nq]`: positions after each control step; alive `[time, envs]`.
        """
        return {}


def goals_are_positions(task: Task) -> bool:
    """Whether goals are positions x, y (and perhaps z) of the body that the agent moves."""
    return [coordinate.name for coordinate in task.goal.coordinates[:2]] == ["x", "y"]


def sample_box(key: Array, shape: tuple[int, ...], corners: tuple | np.ndarray) -> Array:
    """Positions drawn uniformly between two `corners [2, axes]`, `[*shape, axes]`."""
    low, high = jnp.array(corners)
    return jax.random.uniform(key, (*shape, len(low)), minval=low, maxval=high)


def sample_circle(key: Array, num_envs: int, radius: float | Array) -> Array:
    """Positions `[envs, 2]` at random angles; radius: one, or `[envs, 1]`."""
    angle = jax.random.uniform(key, (num_envs,), maxval=2 * jnp.pi)
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def reset_noise(keys: Iterable[Array], num_envs: int, nq: int, nv: int) -> tuple[Array, Array]:
    """Gym's noise at a reset: uniform on positions `[envs, nq]`, normal on velocities
    `[envs, nv]`. keys: of each."""
    position_key, velocity_key = keys
    shape = (num_envs, nq)
    noise = jax.random.uniform(position_key, shape, minval=-RESET_NOISE, maxval=RESET_NOISE)
    return noise, RESET_NOISE * jax.random.normal(velocity_key, (num_envs, nv))


def has_ended(task: Task, state: PhysicsState) -> Array:
    """Whether the episode has terminated or was truncated, `[envs]`."""
    return task.terminated(state) | task.truncated(state)


def is_success(task: Task, achieved: ArrayLike, goal: ArrayLike) -> Array:
    """Whether `achieved [..., goal]` lies within the task's success radius of `goal`."""
    return task.distance(jnp.asarray(achieved), jnp.asarray(goal)) < task.goal.radius


def parse_goal(task: Task, text: str) -> tuple[float, ...]:
    """The goal in a user's text, such as `8,0`.

    Raises UserError if it is not one number per goal coordinate, finite and at most `MAX_GOAL`.
    """
    names = ", ".join(f"{c.name} ({c.unit})" for c in task.goal.coordinates)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != task.goal.dim or not all(abs(value) <= MAX_GOAL for value in values):
        raise UserError(
            f"goal = {text!r} is not allowed: task {task.name} takes {task.goal.dim} numbers "
            f"separated by commas, {names}, each at most {MAX_GOAL:g}."
        )
    return values
