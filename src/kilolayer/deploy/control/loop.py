"""A slow planner and a fast controller, each at its own rate, around a robot or a simulation.

The planner has a thread of its own. The controller never waits for it: it acts on the newest whole
plan, an immutable object behind one reference that the planner replaces and the controller reads.
What goes wrong is counted, written down and answered: without a plan that is whole and young enough
the robot gets its safe action, and so it does for an observation that cannot be one.
"""

import contextlib
import dataclasses
import gc
import math
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kilolayer.agents.base import TaskSpec
from kilolayer.deploy.control.log import ControlLog, PlanRecord, StepRecord, Summary
from kilolayer.deploy.control.robot import Robot, Sensed
from kilolayer.deploy.planning.hierarchy import Pursuit
from kilolayer.types import bad_field

# Seconds after which a thread that computes lets another run; CPython's own is ten times that,
# half of a step at 100 Hz.
SWITCH_INTERVAL = 0.0005
# Seconds that a planner which is still at work is waited for in the end.
LONGEST_GOODBYE = 5.0


@dataclass(frozen=True)
class Timing:
    """rate: control steps a second. plan_rate: plans a second. plan_limit: seconds for which a plan
    is acted on, counted from what it was made from. planner_delay: seconds that each plan is held
    back, to try out a slow planner. Raises UserError for a number out of range."""

    rate: float = 100.0
    plan_rate: float = 5.0
    plan_limit: float = 1.0
    planner_delay: float = 0.0

    def __post_init__(self) -> None:
        for field in ("rate", "plan_rate", "plan_limit"):
            if not 0 < getattr(self, field) < math.inf:
                default = Timing.__dataclass_fields__[field].default
                raise bad_field(field, getattr(self, field), "it must be above 0", default)
        if not 0 <= self.planner_delay < math.inf:
            raise bad_field("planner_delay", self.planner_delay, "it must be 0 or more", 0)


class Clock(Protocol):
    """Seconds since some instant, never going back."""

    def now(self) -> float: ...
    def sleep_until(self, instant: float) -> None: ...


class WallClock:
    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, instant: float) -> None:
        while (left := instant - time.monotonic()) > 0:
            time.sleep(left)


@dataclass(frozen=True)
class Plan:
    """A whole plan: subgoals `[chunk, goal]`, read only, made from what was sensed at `sensed_at`
    on this errand."""

    number: int
    errand: int
    sensed_at: float
    subgoals: np.ndarray


@dataclass
class ControlLoop:
    """Drives a robot with the functions of a planner and a controller.

    spec: the sizes of observation, action and goal. planner: what was sensed to subgoals `[chunk,
    goal]`, called in a thread of its own. controller: `(observation [observation], subgoal [goal])
    -> action [action]`. reached: whether `(achieved_goal [goal], subgoal [goal])` are one. Compile
    what must be compiled before.
    """

    robot: Robot
    spec: TaskSpec
    planner: Callable[[Sensed], Any]
    controller: Callable[[np.ndarray, np.ndarray], Any]
    reached: Callable[[np.ndarray, np.ndarray], Any]
    pursuit: Pursuit = dataclasses.field(default_factory=Pursuit)
    timing: Timing = dataclasses.field(default_factory=Timing)
    log: ControlLog = dataclasses.field(default_factory=ControlLog)
    clock: Clock = dataclasses.field(default_factory=WallClock)

    def __post_init__(self) -> None:
        self._begun = self.clock.now()
        # Each is one reference to what nobody changes: written by the planner, by the controller.
        self._plan: Plan | None = None
        self._seen: tuple[Sensed, float] | None = None
        self._attempts = 0
        self._followed: Plan | None = None
        self._index = self._waited = 0
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._over = threading.Event()

    def run(self, seconds: float) -> Summary:
        """Control for so long, or until interrupted (Ctrl-C), and tell what happened.

        However it ends, the last action is the safe one. Raises what `robot.act` raises.
        """
        ticks = round(seconds * self.timing.rate)
        if ticks < 1:
            raise bad_field("seconds", seconds, "it must last a control step", 1 / self.timing.rate)
        planning = threading.Thread(target=self._plan_on, name="planner", daemon=True)
        self.log.open()
        try:
            with calm_interpreter():
                self._begun = self.clock.now()
                planning.start()
                with contextlib.suppress(KeyboardInterrupt):
                    self._control(ticks)
        finally:
            self._over.set()
            self._wake.put(None)
            try:
                self.robot.act(self._safe_action())
            finally:
                planning.join(LONGEST_GOODBYE)
                summary = self.log.summary(self.timing.rate)
                self.log.close(summary)
        return summary

    def _control(self, ticks: int) -> None:
        period, tick = 1 / self.timing.rate, 0
        while tick < ticks:
            due = self._begun + tick * period
            self.clock.sleep_until(due)
            tick = self.control_step(tick, due, ticks)

    def control_step(self, tick: int, due: float, ticks: int) -> int:
        """Sense and act once; the number of the next step, of `ticks` in all.

        A step that ends after the next was due has missed its deadline. Steps whose whole time has
        passed by then are left out, for a burst of late actions helps nobody.
        """
        period = 1 / self.timing.rate
        begun = self.clock.now()
        action, plan, safe = self._decide(begun)
        self.robot.act(action)
        ended = self.clock.now()
        onward = min(tick + max(1, math.floor((ended - due) / period)), ticks)
        self.log.step(
            StepRecord(
                tick=tick,
                late=begun - due,
                took=ended - begun,
                plan=None if plan is None else plan.number,
                plan_age=None if plan is None else begun - plan.sensed_at,
                subgoal=None if plan is None else self._index,
                safe=safe,
                missed=ended > due + period,
                skipped=onward - tick - 1,
            )
        )
        return onward

    def _decide(self, now: float) -> tuple[np.ndarray, Plan | None, str | None]:
        """The action, the plan behind it and, if the action is the safe one, why."""
        sensed = self._sense()
        if sensed is None:
            return self._safe_action(), None, "bad observation"
        new_errand = self._seen is None or self._seen[0].errand != sensed.errand
        self._seen = (sensed, now)
        if new_errand:
            self._wake.put(None)
        plan = self._plan
        if plan is None or plan.errand != sensed.errand:
            return self._safe_action(), None, "no plan"
        if now - plan.sensed_at > self.timing.plan_limit:
            return self._safe_action(), plan, "old plan"
        subgoal = self._subgoal(plan, sensed)
        try:
            action = np.asarray(self.controller(sensed.observation, subgoal), np.float32)
        except Exception:
            self.log.error(traceback.format_exc())
            return self._safe_action(), plan, "controller failed"
        if action.shape != (self.spec.action_dim,) or not np.isfinite(action).all():
            return self._safe_action(), plan, "bad action"
        return action, plan, None

    def _sense(self) -> Sensed | None:
        """What the robot senses, or None if it is of another shape or not finite."""
        goal = self.spec.goal_dim
        try:
            sensed = self.robot.observe()
            rows = [np.array(part, np.float32) for part in sensed[:3]]
        except Exception:
            self.log.error(traceback.format_exc())
            return None
        shapes = [row.shape for row in rows]
        if shapes != [(self.spec.observation_dim,), (goal,), (goal,)]:
            return None
        if not all(np.isfinite(row).all() for row in rows):
            return None
        return Sensed(*rows, errand=sensed.errand)

    def _subgoal(self, plan: Plan, sensed: Sensed) -> np.ndarray:
        if plan is not self._followed:
            self._followed, self._index, self._waited = plan, 0, 0
        reached = bool(self.reached(sensed.achieved_goal, plan.subgoals[self._index]))
        self._index, self._waited = self.pursuit.advance(
            self._index, self._waited, reached, len(plan.subgoals)
        )
        at_goal = self.reached(sensed.achieved_goal, sensed.goal)
        return sensed.goal if at_goal else plan.subgoals[self._index]

    def _safe_action(self) -> np.ndarray:
        own = getattr(self.robot, "safe_action", None)
        return np.zeros(self.spec.action_dim, np.float32) if own is None else own()

    def _plan_on(self) -> None:
        """The planner's thread: at its rate, and at once for a new errand."""
        period = 1 / self.timing.plan_rate
        while not self._over.is_set():
            due = self.clock.now() + period
            self.plan_once()
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=max(0.0, due - self.clock.now()))

    def plan_once(self) -> None:
        """Plan from what was sensed last, if anything was; only a whole plan replaces another."""
        if self._seen is None:
            return
        sensed, sensed_at = self._seen
        number, begun = self._attempts, self.clock.now()
        self._attempts += 1
        subgoals, error = None, None
        try:
            found = self.planner(sensed)
            if self.timing.planner_delay > 0:
                self.clock.sleep_until(self.clock.now() + self.timing.planner_delay)
            subgoals, error = whole_subgoals(found, self.spec.goal_dim)
            outcome = "malformed" if error else "made"
        except Exception as raised:
            self.log.error(traceback.format_exc())
            outcome, error = "failed", f"{type(raised).__name__}: {raised}"
        took = self.clock.now() - begun
        if subgoals is not None:
            self._plan = Plan(number, sensed.errand, sensed_at, subgoals)
            outcome = "late" if took > 1 / self.timing.plan_rate else outcome
        listed = None if subgoals is None else subgoals.tolist()
        self.log.plan(PlanRecord(number, begun - self._begun, took, outcome, error, listed))


def whole_subgoals(found: Any, goal_dim: int) -> tuple[np.ndarray | None, str | None]:
    """A read-only copy `[chunk, goal]`, or None and what is wrong with it."""
    try:
        subgoals = np.array(found, np.float32)
    except (TypeError, ValueError) as error:
        return None, f"not an array of numbers: {error}"
    if subgoals.ndim != 2 or subgoals.shape[1] != goal_dim:
        return None, f"shape {subgoals.shape} in place of [chunk, {goal_dim}]"
    if len(subgoals) == 0:
        return None, "no subgoals"
    if not np.isfinite(subgoals).all():
        return None, "not finite"
    subgoals.flags.writeable = False
    return subgoals, None


@contextlib.contextmanager
def calm_interpreter() -> Iterator[None]:
    """Within, the garbage collector passes over what was there before, and threads hand over
    sooner."""
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
