"""A run's planner and a controller in the control loop, around a simulation of its task."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.agents.build import task_spec
from kilolayer.analysis.load import Run
from kilolayer.config import TrainConfig
from kilolayer.deploy.control.log import ControlLog, Summary
from kilolayer.deploy.control.loop import ControlLoop, Timing
from kilolayer.deploy.control.robot import Errand, Robot, Sensed, SimulatedRobot
from kilolayer.deploy.planning.build import for_one
from kilolayer.deploy.planning.hierarchy import Pursuit
from kilolayer.deploy.planning.planners import Planner
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success, parse_goal


@dataclass(frozen=True)
class Controlled:
    """What the loop did and what came of it; speed: simulated seconds in a second."""

    summary: Summary
    errands: list[Errand]
    speed: float

    @property
    def success(self) -> float | None:
        """Share of the whole episodes that came to their goal; None if none was whole."""
        reached = [errand.success for errand in self.errands]
        return sum(reached) / len(reached) if reached else None


def control_simulation(
    run: Run | DeployedPolicy,
    controller: DeployedPolicy,
    planner: Planner,
    pursuit: Pursuit,
    timing: Timing,
    seconds: float,
    display: ProgressDisplay,
    goal: str | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> Controlled:
    """Drive one simulated world of the run's task for so many seconds of this machine's clock.

    goal: such as "8,0", told in every episode in place of the task's evaluation goals. out: the
    log. Raises UserError for a goal that is none, or a log that cannot be written.
    """
    told = None if goal is None else np.array(parse_goal(run.task, goal), np.float32)
    plan = planner_function(planner)
    return drive_simulation(
        run.task,
        run.config,
        plan,
        controller.policy,
        pursuit,
        timing,
        seconds,
        display,
        told,
        out,
        seed,
    )


def drive_simulation(
    task: Task,
    config: TrainConfig,
    plan: Callable[[Sensed], Any],
    act: Callable[[np.ndarray, np.ndarray], Any],
    pursuit: Pursuit,
    timing: Timing,
    seconds: float,
    display: ProgressDisplay,
    goal: np.ndarray | None = None,
    out: Path | None = None,
    seed: int = 0,
    plan_dim: int | None = None,
) -> Controlled:
    """As `control_simulation`, by any two functions.

    plan: what was sensed to `[chunk, goal]`, subgoals. act: `(observation [observation], subgoal
    [goal]) -> action [action]`. goal `[goal]`. plan_dim: where the rows of a plan are no goals but
    something else that `act` takes, their length; none counts as reached then.
    """
    log = ControlLog(out, round(seconds * timing.rate), display)
    display.phase("control")
    simulated = SimulatedRobot(task, config, seed, goal)
    robot: Robot = simulated
    spec = task_spec(task)
    reached = jax.jit(lambda achieved, subgoal: is_success(task, achieved, subgoal))
    if plan_dim is not None:
        robot, spec = _Goalless(simulated, plan_dim), replace(spec, goal_dim=plan_dim)
        reached = _never
    # Compile before the clock starts.
    sensed = robot.observe()
    act(sensed.observation, np.asarray(plan(sensed))[0])
    reached(sensed.achieved_goal, sensed.goal)
    loop = ControlLoop(robot, spec, plan, act, reached, pursuit, timing, log)
    summary = loop.run(seconds)
    return Controlled(summary, simulated.errands, timing.rate * task.world.control_step)


@dataclass(frozen=True)
class _Goalless:
    """A robot whose goals the loop does not see, since its plans speak of something else."""

    robot: Robot
    plan_dim: int

    def observe(self) -> Sensed:
        nothing = np.zeros(self.plan_dim, np.float32)
        return self.robot.observe()._replace(achieved_goal=nothing, goal=nothing)

    def act(self, action: np.ndarray) -> None:
        self.robot.act(action)


def _never(achieved_goal: np.ndarray, subgoal: np.ndarray) -> bool:
    return False


def planner_function(planner: Planner):
    """A planner for one robot: what it senses to subgoals `[chunk, goal]`."""
    plan = for_one(planner)
    return lambda sensed: plan(sensed.observation, sensed.achieved_goal, sensed.goal)
