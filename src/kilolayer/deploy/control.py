"""The control loop with a planner and a controller, on a simulation of a task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.deploy.card import task_card
from kilolayer.physics.build import build_physics
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, has_ended, is_success
from kilolayer.training.evaluate import evaluation_key, evaluation_start
from kilolayer.types import Array
from kilolayer_robot.card import Card
from kilolayer_robot.log import ControlLog, Progress
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.records import Summary
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing


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
    [goal]`. An episode ends early if it terminates. `episodes` lists the finished ones. plan_dim:
    hide the goals from the loop, behind zeros of this length.
    """

    def __init__(
        self,
        task: Task,
        config: RunConfig,
        seed: int = 0,
        goal: np.ndarray | None = None,
        plan_dim: int | None = None,
    ):
        self.episodes: list[EpisodeResult] = []
        self._task, self._goal = task, None if goal is None else jnp.asarray(goal)
        self._seed, self._plan_dim = seed, plan_dim
        self._physics = build_physics(task.world, 1, config.physics)
        self._begin, self._step = jax.jit(self._begin_episode), jax.jit(self._control_step)
        self._start()
        # Compile before the first clock starts.
        self._step(self._state, self._commanded, jnp.zeros((1, task.action_dim)))

    def observe(self) -> Sensed:
        if self._plan_dim is None:
            return self._sensed
        zeros = np.zeros(self._plan_dim, np.float32)
        return self._sensed._replace(achieved_goal=zeros, goal=zeros)

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


@dataclass(frozen=True)
class ControlResult:
    """Result of a control loop. speed: simulated seconds per real second."""

    summary: Summary
    episodes: list[EpisodeResult]
    speed: float

    @property
    def success(self) -> float | None:
        """Share of the complete episodes that reached their goal; None without a complete one."""
        reached = [episode.success for episode in self.episodes]
        return sum(reached) / len(reached) if reached else None


def drive_simulation(
    task: Task,
    config: RunConfig,
    plan: Callable[[Sensed], Any],
    act: Callable[[np.ndarray, np.ndarray], Any],
    pursuit: Pursuit,
    timing: Timing,
    seconds: float | None,
    display: ProgressDisplay,
    goal: np.ndarray | None,
    out: Path | None,
    seed: int,
    plan_dim: int | None = None,
) -> ControlResult:
    """Control one simulated environment of a task for `seconds` of real time; None means until a
    signal.

    plan: `Sensed -> subgoals [chunk, goal]`. act: `(observation [observation], subgoal [goal]) ->
    action [action]`. goal `[goal]`: the commanded goal of every episode. None: the task's
    evaluation goals. out: file of the log. plan_dim: length of a plan's rows when they are not
    goals but another input of `act`; the loop then counts no row as reached. Raises UserError for a
    log that cannot be written.
    """
    log = ControlLog(out, _progress(display, timing, seconds))
    display.phase("control")
    robot = SimulatedRobot(task, config, seed, goal, plan_dim)
    card = task_card(task)
    reached = jax.jit(lambda achieved, subgoal: is_success(task, achieved, subgoal))
    if plan_dim is not None:
        card = Card.plain(len(card.observation), plan_dim, len(card.action))
        reached = _never_reached
    # Compile before the clock starts.
    sensed = robot.observe()
    act(sensed.observation, np.asarray(plan(sensed))[0])
    assert sensed.goal is not None
    reached(sensed.achieved_goal, sensed.goal)
    loop = ControlLoop(
        robot, card, act, plan, reached=reached, pursuit=pursuit, timing=timing, log=log
    )
    summary = loop.run(seconds)
    return ControlResult(summary, robot.episodes, timing.rate * task.world.control_step)


def _progress(display: ProgressDisplay, timing: Timing, seconds: float | None) -> Progress | None:
    """A function that updates the display; None if the loop has no time limit."""
    if seconds is None:
        return None
    total = timing.steps(seconds)

    def update(ticks: int, misses: int, safe: int) -> None:
        display.advance(min(ticks, total), total, misses=misses, safe_actions=safe)

    return update


def _never_reached(achieved_goal: np.ndarray, subgoal: np.ndarray) -> bool:
    return False
