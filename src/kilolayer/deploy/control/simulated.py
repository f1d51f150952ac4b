"""A simulated environment that the control loop drives like a robot."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task, has_ended, is_success
from kilolayer.training.evaluate import evaluation_key, evaluation_start
from kilolayer.types import Array
from kilolayer_robot.robot import Sensed


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode of a simulated robot.

    success: whether it reached its goal. time_at_goal: control steps there.
    """

    success: bool
    time_at_goal: int
    steps: int


class SimulatedRobot:
    """One environment of a task, with its own physics engine. Each action is one control step.

    The loop sets the pace: at `1 / control_step` Hz the simulation runs in real time, at a higher
    rate faster. Episodes have the task's length and its evaluation goals, or the goal `goal
    [goal]`. An episode ends early if it terminates. `episodes` lists the finished ones.
    """

    def __init__(
        self, task: Task, config: RunConfig, seed: int = 0, goal: np.ndarray | None = None
    ):
        self.episodes: list[EpisodeResult] = []
        self._task, self._goal = task, None if goal is None else jnp.asarray(goal)
        self._seed = seed
        self._physics = build_physics(task.world, 1, config.physics)
        self._begin, self._step = jax.jit(self._begin_episode), jax.jit(self._control_step)
        self._start()
        # Compile before the first clock starts.
        self._step(self._state, self._commanded, jnp.zeros((1, task.action_dim)))

    def observe(self) -> Sensed:
        return self._sensed

    def act(self, action: np.ndarray) -> None:
        self._state, self._commanded, rows, reached, ended = self._step(
            self._state, self._commanded, np.asarray(action, np.float32)[None]
        )
        rows, reached, ended = jax.device_get((rows, reached, ended))
        self._steps += 1
        self._time_at_goal += int(reached and not ended)
        self._sensed = Sensed(*rows, errand=len(self.episodes))
        if ended or self._steps >= self._task.episode_length:
            self.episodes.append(
                EpisodeResult(self._time_at_goal > 0, self._time_at_goal, self._steps)
            )
            self._start()

    def safe_action(self) -> np.ndarray:
        """Zeros, the middle of every actuator's range."""
        return np.zeros(self._task.action_dim, np.float32)

    def _start(self) -> None:
        key = evaluation_key(self._seed, len(self.episodes))
        self._state, self._commanded, rows = self._begin(key)
        self._sensed = Sensed(*jax.device_get(rows), errand=len(self.episodes))
        self._steps = self._time_at_goal = 0

    def _begin_episode(self, key: Array) -> tuple:
        start = evaluation_start(self._task, key, 1, "evaluation", self._goal)
        state = self._physics.init(start.qpos, start.qvel)
        goal = self._task.current_goal(state, start.goal)
        return state, goal, self._rows(state, goal)

    def _control_step(self, state, goal, action) -> tuple:
        state = self._physics.step(state, action)
        goal = self._task.current_goal(state, goal)
        reached = is_success(self._task, self._task.achieved_goal(state), goal)[0]
        return state, goal, self._rows(state, goal), reached, has_ended(self._task, state)[0]

    def _rows(self, state, goal) -> tuple[Array, Array, Array]:
        task = self._task
        return task.observe(state)[0], task.achieved_goal(state)[0], goal[0]
