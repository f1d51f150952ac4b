"""The control loop with a planner and a controller, on a simulation of a task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.deploy.card import task_card
from kilolayer.deploy.control.simulated import EpisodeResult, SimulatedRobot
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success
from kilolayer_robot.card import Card
from kilolayer_robot.log import ControlLog, Progress
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.records import Summary
from kilolayer_robot.robot import Robot, Sensed
from kilolayer_robot.timing import Timing


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
    simulated = SimulatedRobot(task, config, seed, goal)
    robot: Robot = simulated
    card = task_card(task)
    reached = jax.jit(lambda achieved, subgoal: is_success(task, achieved, subgoal))
    if plan_dim is not None:
        robot = _WithoutGoals(simulated, plan_dim)
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
    return ControlResult(summary, simulated.episodes, timing.rate * task.world.control_step)


def _progress(display: ProgressDisplay, timing: Timing, seconds: float | None) -> Progress | None:
    """A function that updates the display; None if the loop has no time limit."""
    if seconds is None:
        return None
    total = timing.steps(seconds)

    def update(ticks: int, misses: int, safe: int) -> None:
        display.advance(min(ticks, total), total, misses=misses, safe_actions=safe)

    return update


@dataclass(frozen=True)
class _WithoutGoals:
    """A robot that hides its goals from the loop, for plans whose rows are not goals."""

    robot: Robot
    plan_dim: int

    def observe(self) -> Sensed:
        zeros = np.zeros(self.plan_dim, np.float32)
        return self.robot.observe()._replace(achieved_goal=zeros, goal=zeros)

    def act(self, action: np.ndarray) -> None:
        self.robot.act(action)

    def safe_action(self) -> np.ndarray:
        return self.robot.safe_action()


def _never_reached(achieved_goal: np.ndarray, subgoal: np.ndarray) -> bool:
    return False
