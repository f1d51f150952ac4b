"""A run's planner and a controller in the control loop, around a simulation of its task."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from kilolayer.agents.build import task_spec
from kilolayer.analysis.load import Run
from kilolayer.deploy.control_log import ControlLog, Summary
from kilolayer.deploy.control_loop import ControlLoop, Timing
from kilolayer.deploy.hierarchy import Pursuit
from kilolayer.deploy.planners import Planner
from kilolayer.deploy.planning import for_one
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.deploy.robot import Errand, SimulatedRobot
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import is_success, parse_goal


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
    run: Run,
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
    task = run.task
    told = None if goal is None else np.array(parse_goal(task, goal), np.float32)
    log = ControlLog(out, round(seconds * timing.rate), display)
    display.phase("control")
    robot = SimulatedRobot(task, run.config, seed, told)
    spec = task_spec(task)
    plan, act = planner_function(planner), controller.policy
    reached = jax.jit(lambda achieved, subgoal: is_success(task, achieved, subgoal))
    # Compile before the clock starts.
    sensed = robot.observe()
    plan(sensed)
    act(sensed.observation, sensed.goal)
    reached(sensed.achieved_goal, sensed.goal)
    loop = ControlLoop(robot, spec, plan, act, reached, pursuit, timing, log)
    summary = loop.run(seconds)
    return Controlled(summary, robot.errands, timing.rate * task.world.control_step)


def planner_function(planner: Planner):
    """A planner for one robot: what it senses to subgoals `[chunk, goal]`."""
    plan = for_one(planner)
    return lambda sensed: plan(sensed.observation, sensed.achieved_goal, sensed.goal)
