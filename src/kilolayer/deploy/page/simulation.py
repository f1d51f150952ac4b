"""One robot under one policy, stepped in simulation, with the values that the page shows."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.errors import UserError
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task, has_ended
from kilolayer.types import Array

# (observation [observation], goal [goal]) -> action [action] in [-1, 1]
Controller = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (observation [observation], achieved goal [goal], goal [goal]) -> subgoals [m, goal], in order
Planner = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

LATENCIES = 100  # newest steps that the shown latency covers
REPLAN_EVERY = 20  # control steps


@dataclass(frozen=True)
class NamedPolicy:
    """A policy with its name, such as `student`, and a short description."""

    name: str
    about: str
    controller: Controller


class EnvSnapshot(eqx.Module):
    """One environment after a control step. Only the physics state has an axis of environments."""

    physics: PhysicsState
    goal: Array
    observation: Array
    achieved: Array
    distance: Array
    terminated: Array


class Simulator:
    """One environment of a task, as compiled pure functions."""

    def __init__(self, task: Task):
        physics = build_physics(task.world, 1)

        def sense(state: PhysicsState, goal: Array) -> EnvSnapshot:
            achieved, goal = task.achieved_goal(state), task.current_goal(state, goal)
            observation, distance = task.observe(state), task.distance(achieved, goal)
            ended = has_ended(task, state)
            return EnvSnapshot(state, goal[0], observation[0], achieved[0], distance[0], ended[0])

        def begin(key: Array, goal: Array) -> EnvSnapshot:
            return sense(physics.init(*task.reset(key, goal[None], "evaluation")), goal[None])

        def advance(snapshot: EnvSnapshot, action: Array) -> EnvSnapshot:
            state = physics.step(snapshot.physics, action[None])
            return sense(state, snapshot.goal[None])

        def set_goal(snapshot: EnvSnapshot, goal: Array) -> EnvSnapshot:
            return sense(snapshot.physics, goal[None])

        self.begin, self.advance = jax.jit(begin), jax.jit(advance)
        self.set_goal = jax.jit(set_goal)
        self.distance = jax.jit(task.distance)


@dataclass(frozen=True)
class RobotFrame:
    """The visible state of a player.

    qpos `[nq]`; achieved, goal `[goal]`; subgoals `[m, goal]`, in order. path `[steps + 1, 3]`: of
    the point that should reach the goal, since the start. distance: to the goal, in the goal's
    unit. reached: seconds until the goal was first reached. at_goal: seconds within the success
    radius. ended: why the episode ended early. latency: median and 99th percentile of the policy's
    newest calls, ms.
    """

    qpos: np.ndarray
    achieved: np.ndarray
    goal: np.ndarray
    subgoals: np.ndarray
    path: np.ndarray
    distance: float
    reached: float | None
    at_goal: float
    ended: str | None
    latency: tuple[float, float] | None


class RobotSimulation:
    """A player's robot and its record since the current goal was set.

    planner: if given, the player heads for the first subgoal that it has not reached.
    """

    def __init__(
        self,
        player: NamedPolicy,
        task: Task,
        simulator: Simulator,
        planner: Planner | None,
    ):
        self.player, self._task, self._simulator = player, task, simulator
        self._planner = planner
        self._latencies: deque[float] = deque(maxlen=LATENCIES)

    def begin(self, snapshot: EnvSnapshot) -> None:
        """Start from this state with an empty record."""
        self._path: list[np.ndarray] = []
        self._append(snapshot)
        self._reset_record()

    def set_goal(self, goal: np.ndarray) -> None:
        """Set a new goal `[goal]`; the robot continues from its current state."""
        self._append(self._simulator.set_goal(self.snapshot, jnp.asarray(goal)))
        self._reset_record()

    def _reset_record(self) -> None:
        self._steps = 0
        self._reached: int | None = None
        self._at_goal = 0
        self.ended: str | None = None
        self._subgoals = np.zeros((0, self._task.goal.dim), np.float32)

    def _append(self, snapshot: EnvSnapshot) -> None:
        self.snapshot = snapshot
        self._path.append(self._task.goal_points(np.asarray(snapshot.achieved))[0])

    def step(self) -> None:
        """Take one control step, or none if the episode has ended."""
        if self.ended is not None:
            return
        observation = np.asarray(self.snapshot.observation)
        goal = self._next_goal(observation)
        start = time.perf_counter()
        action = self.player.controller(observation, goal)
        self._latencies.append(time.perf_counter() - start)
        snapshot = self._simulator.advance(self.snapshot, jnp.asarray(action))
        self._steps += 1
        if not np.isfinite(snapshot.observation).all():
            self.ended = "the simulation diverged"
            return
        self._append(snapshot)
        if snapshot.terminated:
            self.ended = "the episode terminated, for example by a fall"
        elif snapshot.distance < self._task.goal.radius:
            self._at_goal += 1
            self._reached = self._reached or self._steps

    def _next_goal(self, observation: np.ndarray) -> np.ndarray:
        goal, achieved = np.asarray(self.snapshot.goal), np.asarray(self.snapshot.achieved)
        if self._planner is None:
            return goal
        if self._steps % REPLAN_EVERY == 0:
            subgoals = np.asarray(self._planner(observation, achieved, goal), np.float32)
            if subgoals.ndim != 2 or subgoals.shape[1] != len(goal):
                raise UserError(
                    f"the planner gave subgoals of the shape {subgoals.shape}; they must be [m, "
                    f"{len(goal)}]."
                )
            self._subgoals = subgoals[np.isfinite(subgoals).all(1)]
        radius = self._task.goal.radius
        while (
            len(self._subgoals) and self._simulator.distance(achieved, self._subgoals[0]) < radius
        ):
            self._subgoals = self._subgoals[1:]
        return self._subgoals[0] if len(self._subgoals) else goal

    def warm_up(self) -> None:
        """Compile all functions before the first visible step."""
        self.set_goal(np.asarray(self.snapshot.goal))
        self.step()
        self._latencies.clear()

    def frame(self) -> RobotFrame:
        second, snapshot = self._task.world.control_step, self.snapshot
        latency = None
        if self._latencies:
            median, p99 = 1e3 * np.percentile(np.array(self._latencies), [50, 99])
            latency = float(median), float(p99)
        return RobotFrame(
            qpos=np.asarray(snapshot.physics.qpos, np.float64)[0],
            achieved=np.asarray(snapshot.achieved),
            goal=np.asarray(snapshot.goal),
            subgoals=self._subgoals,
            path=np.stack(self._path),
            distance=float(snapshot.distance),
            reached=None if self._reached is None else self._reached * second,
            at_goal=self._at_goal * second,
            ended=self.ended,
            latency=latency,
        )
