"""A slow planner and a fast controller, each at its own rate, around a robot or a simulation.

The controller never waits for the planner: it acts on the newest complete plan. Every fault is
counted, logged and answered with the safe action. A watchdog thread sends the safe action when this
loop cannot. However the loop ends, the last action is the safe one.
"""

import contextlib
import math
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kilolayer_robot.card import Card, as_float32
from kilolayer_robot.errors import bad_field
from kilolayer_robot.gate import Gate, Handling
from kilolayer_robot.lock import robot_lock
from kilolayer_robot.log import ControlLog
from kilolayer_robot.planning import Plan, PlannerThread, Pursuit, direct_planner
from kilolayer_robot.realtime import IdleCollector, Realtime, controlled_gc
from kilolayer_robot.records import StepRecord, Summary
from kilolayer_robot.robot import Robot, Sensed, require_robot
from kilolayer_robot.stopping import Signals
from kilolayer_robot.timing import Clock, Timing, WallClock
from kilolayer_robot.watchdog import MAX_GRACE, Watchdog

# Longest sleep in seconds: a loop of less than 1 Hz must notice a signal too.
MAX_SLEEP = 0.5


@dataclass
class ControlLoop:
    """Drives a robot with the functions of a controller and a planner.

    card: sizes, bounds and success radius. controller:
    `(observation [observation], subgoal [goal]) -> action [action]`, such as `Policy`. planner:
    maps a measurement to subgoals `[chunk, goal]`, in its own thread; default: the goal itself.
    goal `[goal]`: replaces the robot's own goal. reached: whether `achieved_goal [goal]` reaches
    `subgoal [goal]`; default: the card's rule. lock: name of a lock that no second loop may hold;
    None: no lock. grace: seconds after a signal within which the loop must end; after that its
    process is ended; None: never. Compile all functions before the loop starts.
    """

    robot: Robot
    card: Card
    controller: Callable[[np.ndarray, np.ndarray], Any]
    planner: Callable[[Sensed], Any] = direct_planner
    goal: Any = None
    reached: Callable[[np.ndarray, np.ndarray], Any] | None = None
    pursuit: Pursuit = field(default_factory=Pursuit)
    timing: Timing = field(default_factory=Timing)
    handling: Handling = field(default_factory=Handling)
    realtime: Realtime = field(default_factory=Realtime)
    log: ControlLog = field(default_factory=ControlLog)
    clock: Clock = field(default_factory=WallClock)
    lock: str | None = None
    grace: float | None = None

    def __post_init__(self) -> None:
        require_robot(self.robot)
        if self.grace is not None and not 0 < self.grace <= MAX_GRACE:
            allowed = f"it must be above 0 and at most {MAX_GRACE:g}"
            raise bad_field("grace", self.grace, allowed, 5.0)
        if self.goal is not None:
            self.goal = self.card.checked_goal(self.goal)
        self.gate = Gate(
            self.robot, self.card, self.clock, self.timing, self.handling.bad_action, self.log.error
        )
        self.plans = PlannerThread(
            self.planner, len(self.card.goal), self.timing, self.clock, self.log
        )
        self._reached = self.reached or self.card.reached
        self._start_time = self.clock.now()
        self._last_good: tuple[Sensed, float] | None = None
        self._current_plan: Plan | None = None
        self._index = self._waited = 0
        self._stop = threading.Event()
        self._collector: IdleCollector | None = None

    def stop(self) -> None:
        """End the loop after its current step; may be called from any thread."""
        self._stop.set()

    def run(self, seconds: float | None = None) -> Summary:
        """Control for this long, or until a signal or `stop`, and return a summary. A loop runs
        once.

        However the loop ends, the last action is the safe one. Raises UserError before the first
        action if `safe_action()` returns no valid action, another loop holds the lock or this one
        has run before; raises what `robot.act` raises.
        """
        ticks = None if seconds is None else self.timing.steps(seconds)
        with contextlib.nullcontext() if self.lock is None else robot_lock(self.lock):
            self.gate.check_safe_action()
            return self._run(ticks)

    def _run(self, ticks: int | None) -> Summary:
        stopped_by, ended_safely = "time", False
        self.log.open()
        with Signals() as signals:
            watchdog = Watchdog(self.gate, signals, self._raise_watchdog_priority, self.grace)
            try:
                if not signals.installed:
                    self.log.note("not in the main thread, so signals do not stop the loop")
                # Before the priority is raised: a thread inherits it, and the core, from the thread
                # that starts it, and a planner must not delay the loop.
                self.plans.start()
                with self.realtime.applied() as refused, controlled_gc() as self._collector:
                    self.log.note(*refused)
                    self._start_time = self.clock.now()
                    watchdog.start()
                    try:
                        self._control(ticks, signals)
                    finally:
                        # Before automatic collection is back, which may take longer than a period.
                        self.gate.close()
                if self._stop.is_set():
                    stopped_by = "stop"
            except KeyboardInterrupt:
                stopped_by = "SIGINT"
            except BaseException as error:
                stopped_by = type(error).__name__
                self.log.error(traceback.format_exc())
                raise
            finally:
                ended_safely = self.gate.close()
                self.plans.request_end()
                watchdog.end()
                self.plans.join()
                summary = self._summary(signals.received or stopped_by, ended_safely)
                summary = self.log.close(summary)
        return summary

    def _raise_watchdog_priority(self) -> None:
        self.log.note(*self.realtime.apply(above=1))

    def _summary(self, stopped_by: str, ended_safely: bool) -> Summary:
        gate, collector = self.gate, self._collector
        if gate.blocked:
            self.log.note(f"act() of the robot made the watchdog wait {gate.blocked} times")
        if gate.safe_failures:
            self.log.note(
                f"safe_action() failed {gate.safe_failures} times; an earlier safe action was sent"
            )
        return self.log.summary(
            rate=self.timing.rate,
            stalls=gate.stalls,
            watchdog_actions=gate.watchdog_actions,
            actions=gate.sent,
            longest_pause=1e3 * collector.longest if collector else 0.0,
            stopped_by=stopped_by,
            ended_safely=ended_safely,
        )

    def _control(self, ticks: int | None, signals: Signals) -> None:
        period, tick = self.timing.period, 0
        while ticks is None or tick < ticks:
            due = self._start_time + tick * period
            if not self._wait_until(due, signals):
                return
            tick = self.control_step(tick, due, ticks)
            if self._collector is not None:
                self._collector.collect(self._start_time + tick * period - self.clock.now())

    def _wait_until(self, due: float, signals: Signals) -> bool:
        """Sleep until then; returns False at once if the loop must end."""
        ending = False
        while not ending and self.clock.now() + MAX_SLEEP < due:
            self.clock.sleep_until(self.clock.now() + MAX_SLEEP)
            ending = self._must_end(signals)
        if not ending:
            self.clock.sleep_until(due)
        return not self._must_end(signals)

    def _must_end(self, signals: Signals) -> bool:
        return self.gate.closing or signals.received is not None or self._stop.is_set()

    def control_step(self, tick: int, due: float, ticks: int | None = None) -> int:
        """Observe and act once; returns the number of the next step, of `ticks` in all.

        A step that ends after the next step was due has missed its deadline. Steps whose whole time
        has passed by then are skipped, because a burst of late actions does not help.
        """
        period = self.timing.period
        start = self.clock.now()
        step = self.gate.begin_step()
        action, plan, safe, flaw = self._decide(start)
        refused, clipped = self.gate.send(step, action)
        ended = self.clock.now()
        next_tick = tick + max(1, math.floor((ended - due) / period))
        next_tick = next_tick if ticks is None else min(next_tick, ticks)
        self.log.step(
            StepRecord(
                tick=tick,
                late=start - due,
                took=ended - start,
                plan=None if plan is None else plan.number,
                plan_age=None if plan is None else start - plan.measured_at,
                subgoal=None if plan is None else self._index,
                safe=refused or safe,
                flaw=flaw,
                clipped=clipped,
                missed=ended > due + period,
                skipped=next_tick - tick - 1,
            )
        )
        return next_tick

    def _decide(self, now: float) -> tuple[Any, Plan | None, str | None, str | None]:
        """The action, the plan behind it, why the action is None, and the observation's flaw."""
        sensed, measured_at, flaw = self._usable_observation()
        if sensed is None:
            return None, None, flaw, flaw
        self.plans.set_measurement(sensed, measured_at)
        plan = self.plans.plan
        if plan is None or plan.errand != sensed.errand:
            return None, None, "no plan", flaw
        if now - plan.measured_at > self.timing.plan_limit:
            return None, plan, "old plan", flaw
        try:
            action = self.controller(sensed.observation, self._subgoal(plan, sensed))
        except Exception:
            self.log.error(traceback.format_exc())
            return None, plan, "controller failed", flaw
        return action, plan, None if action is not None else "bad action", flaw

    def _usable_observation(self) -> tuple[Sensed | None, float, str | None]:
        """The measurement to act on, its time, and the flaw of the observation."""
        limit = self.timing.observation_limit * self.timing.period
        sensed, measured_at, flaw = self._observe(limit)
        if sensed is not None:
            self._last_good = (sensed, measured_at)
            return sensed, measured_at, None
        if self.handling.bad_observation == "last" and self._last_good is not None:
            last, at = self._last_good
            if self.clock.now() - at <= limit:
                return last, at, flaw
        return None, self.clock.now(), flaw

    def _observe(self, limit: float) -> tuple[Sensed | None, float, str | None]:
        start = self.clock.now()
        try:
            sensed = self.robot.observe()
            goal = sensed.goal if self.goal is None else self.goal
            parts = (sensed.observation, sensed.achieved_goal, goal)
            rows = [as_float32(part) for part in parts]
            measured_at = start if sensed.measured_at is None else float(sensed.measured_at)
            errand = int(sensed.errand)
        except Exception:
            self.log.error(traceback.format_exc())
            return None, start, "bad observation"
        card = self.card
        expected = [(len(card.observation),), (len(card.goal),), (len(card.goal),)]
        if [row.shape for row in rows] != expected or not all(
            np.isfinite(row).all() for row in rows
        ):
            return None, start, "bad observation"
        now = self.clock.now()
        # A time in the future is of another clock, so the age is unknown. `not ... <=` instead of
        # `>`, which NaN would pass.
        if not abs(now - measured_at) <= limit:
            return None, start, "late observation"
        measured_at = min(measured_at, now)
        return Sensed(*rows, errand=errand, measured_at=measured_at), measured_at, None

    def _subgoal(self, plan: Plan, sensed: Sensed) -> np.ndarray:
        if plan is not self._current_plan:
            self._current_plan, self._index, self._waited = plan, 0, 0
        assert sensed.goal is not None
        reached = bool(self._reached(sensed.achieved_goal, plan.subgoals[self._index]))
        self._index, self._waited = self.pursuit.advance(
            self._index, self._waited, reached, len(plan.subgoals)
        )
        at_goal = self._reached(sensed.achieved_goal, sensed.goal)
        return sensed.goal if at_goal else plan.subgoals[self._index]
