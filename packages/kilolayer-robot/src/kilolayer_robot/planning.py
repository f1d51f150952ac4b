"""The slow planner beside the fast controller: its thread, its plans, and their pursuit."""

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilolayer_robot.card import as_float32
from kilolayer_robot.errors import bad_field
from kilolayer_robot.log import ControlLog
from kilolayer_robot.records import PlanRecord
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Clock, Timing

# Seconds to wait at the end for a planner that is still computing.
JOIN_TIMEOUT = 5.0


@dataclass(frozen=True)
class Pursuit:
    """How a controller follows the subgoals of a plan.

    replan: control steps from one plan to the next. chunk: subgoals in a plan. execute: number of
    these to pursue; the last of them stays the target until the next plan. patience: control steps
    after which the controller turns to the next subgoal without reaching the current one. Within
    the success radius of the goal, the controller pursues the goal itself, whatever the plan says.
    Raises UserError for a number out of range.
    """

    replan: int = 20
    chunk: int = 5
    execute: int = 5
    patience: int = 20

    def __post_init__(self) -> None:
        for field in ("replan", "chunk", "patience"):
            if getattr(self, field) < 1:
                raise bad_field(field, getattr(self, field), "it must be at least 1", 1)
        if not 1 <= self.execute <= self.chunk:
            nearest = min(max(self.execute, 1), self.chunk)
            allowed = f"a plan has {self.chunk} subgoals, of which 1 to {self.chunk} are executed"
            raise bad_field("execute", self.execute, allowed, nearest)

    @staticmethod
    def of(
        replan: int, chunk: int, execute: int | None = None, patience: int | None = None
    ) -> "Pursuit":
        """Defaults: execute all subgoals of a chunk; the patience is the time between plans."""
        return Pursuit(
            replan,
            chunk,
            chunk if execute is None else execute,
            max(1, replan) if patience is None else patience,
        )

    def advance(self, index: Any, waited: Any, reached: Any, count: int) -> tuple[Any, Any]:
        """Which of `count` subgoals is next and for how long it has been pursued: numbers, or an
        array of each. reached: whether subgoal `index` was reached."""
        moves = (reached | (waited >= self.patience)) & (index + 1 < min(self.execute, count))
        return index + moves, (waited + 1) * (1 - moves)


@dataclass(frozen=True)
class Plan:
    """A complete plan: read-only subgoals `[chunk, goal]`, made from the measurement at
    `measured_at` for the goal with the number `errand`."""

    number: int
    errand: int
    measured_at: float
    subgoals: np.ndarray


def direct_planner(sensed: Sensed) -> np.ndarray:
    """A planner whose only subgoal is the goal itself."""
    assert sensed.goal is not None
    return sensed.goal[None]


class PlannerThread:
    """Calls a planner at its rate, and at once for a new goal.

    The controller never waits for this thread. `plan` is one reference to an immutable object,
    which this thread replaces and the controller reads. Only a complete plan replaces another.
    """

    def __init__(
        self,
        planner: Callable[[Sensed], Any],
        goal_dim: int,
        timing: Timing,
        clock: Clock,
        log: ControlLog,
    ):
        self._planner, self._goal_dim = planner, goal_dim
        self._timing, self._clock, self._log = timing, clock, log
        self.plan: Plan | None = None
        self._measurement: tuple[Sensed, float] | None = None
        self._attempts, self._start_time = 0, clock.now()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)

    def start(self) -> None:
        self._start_time = self._clock.now()
        self._thread.start()

    def set_measurement(self, sensed: Sensed, measured_at: float) -> None:
        """Set the measurement to plan from."""
        new_errand = self._measurement is None or self._measurement[0].errand != sensed.errand
        self._measurement = (sensed, measured_at)
        # At most one wake-up waits, even if errands change faster than plans are made.
        if new_errand and self._wake.empty():
            self._wake.put(None)

    def request_end(self) -> None:
        self._ending.set()
        self._wake.put(None)

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        period = 1 / self._timing.plan_rate
        while not self._ending.is_set():
            due = self._clock.now() + period
            self.plan_once()
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=max(0.0, due - self._clock.now()))

    def plan_once(self) -> None:
        """Plan from the newest measurement, if there is one."""
        if self._measurement is None:
            return
        sensed, measured_at = self._measurement
        number, start = self._attempts, self._clock.now()
        self._attempts += 1
        subgoals, error = None, None
        try:
            found = self._planner(sensed)
            if self._timing.planner_delay > 0:
                self._clock.sleep_until(self._clock.now() + self._timing.planner_delay)
            subgoals, error = validated_subgoals(found, self._goal_dim)
            outcome = "malformed" if error else "made"
        except BaseException as raised:  # a SystemExit would end the thread without a word
            self._log.error(traceback.format_exc())
            outcome, error = "failed", f"{type(raised).__name__}: {raised}"
        took = self._clock.now() - start
        if subgoals is not None:
            self.plan = Plan(number, sensed.errand, measured_at, subgoals)
            outcome = "late" if took > 1 / self._timing.plan_rate else outcome
        listed = None if subgoals is None else subgoals.tolist()
        self._log.plan(PlanRecord(number, start - self._start_time, took, outcome, error, listed))


def validated_subgoals(found: Any, goal_dim: int) -> tuple[np.ndarray | None, str | None]:
    """A read-only copy `[chunk, goal]`, or None and the fault of `found`."""
    try:
        subgoals = as_float32(found)
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
