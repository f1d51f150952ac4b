"""The gate through which every action passes: it is checked, and only one is sent at a time.

The loop opens a step, computes, and sends. If the step took too long or the watchdog acted
meanwhile, the computed action is stale: the gate drops it and sends the safe action. `close` sends
the safe action; after it the gate sends nothing.
"""

import math
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kilolayer_robot.card import Card, as_float32
from kilolayer_robot.errors import UserError, bad_field
from kilolayer_robot.robot import Robot
from kilolayer_robot.timing import Clock, Timing

# Attempts to send the last safe action when the robot's driver raises.
CLOSING_ATTEMPTS = 3
# Seconds to wait for an `act` that does not return before giving up on the last action.
CLOSING_TIMEOUT = 1.0


@dataclass(frozen=True)
class Handling:
    """How to handle bad actions and bad observations.

    bad_action: an action outside the card's bounds is clipped to them, or replaced by the safe
    action; an action of another shape or a non-finite action is always replaced. bad_observation:
    for an observation that is late, of another shape or not finite, send the safe action, or act on
    the last good one while that is younger than `Timing.observation_limit`.
    """

    bad_action: Literal["clip", "safe"] = "clip"
    bad_observation: Literal["safe", "last"] = "safe"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("bad_action", ("clip", "safe")),
            ("bad_observation", ("safe", "last")),
        ):
            if getattr(self, name) not in allowed:
                raise bad_field(name, getattr(self, name), " or ".join(allowed), allowed[0])


class Gate:
    """Sends actions to a robot.

    sent: number of actions sent. watchdog_actions: safe actions sent by the watchdog. stalls: how
    often the controller was late. blocked: how often the watchdog found an `act` that did not
    return. safe_failures: how often `safe_action()` raised, was too slow or returned no action.
    closing: whether only the last safe action may still be sent. on_error: called with the
    traceback of an exception that the robot raised, or with another fault.
    """

    def __init__(
        self,
        robot: Robot,
        card: Card,
        clock: Clock,
        timing: Timing,
        bad_action: Literal["clip", "safe"] = "clip",
        on_error: Callable[[str], None] = lambda _: None,
    ):
        self._robot, self._card, self._clock, self._timing = robot, card, clock, timing
        self._low, self._high, self._bad_action = card.low, card.high, bad_action
        self._on_error = on_error
        self._lock = threading.Lock()  # held while the robot acts
        self._asking = threading.Lock()  # held while the robot computes its safe action
        self._step, self._step_start, self._deadline = 0, 0.0, math.inf
        self._safe: np.ndarray | None = None
        self._stalled = self.closing = False
        self.closed_at: float | None = None
        self.sent = self.watchdog_actions = self.stalls = self.blocked = self.safe_failures = 0

    def check_safe_action(self) -> None:
        """Raises UserError unless `safe_action()` returns an action within the card's bounds."""
        try:
            found = self._robot.safe_action()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"safe_action() of the robot raised {type(error).__name__}: {error}. The loop does "
                "not start without a safe action."
            ) from error
        problem = self._card.action_problem(found)
        if problem is not None:
            raise UserError(
                f"safe_action() of the robot {problem}: the loop does not start without a safe "
                "action."
            )
        self._safe = as_float32(found)

    def begin_step(self) -> int:
        """Open a step and return its number. The step stays open for `Timing.longest_hold`."""
        with self._lock:
            self._step += 1
            self._step_start = self._clock.now()
            if math.isinf(self._deadline):
                self._deadline = self._step_start + self._timing.longest_hold
            return self._step

    def send(self, step: int, action: np.ndarray | None) -> tuple[str | None, bool]:
        """Send the action of a step; for None, send the safe action.

        Returns why the safe action was sent instead, or None, and whether the action was clipped.
        Raises what `act` raises.
        """
        reason, clipped, safe = None, False, None
        if action is not None:
            action, reason, clipped = self._checked(action)
        while True:
            # Outside the lock: a `safe_action()` that does not return must not stop the watchdog.
            if safe is None and (action is None or self._is_stale(step)):
                safe = self._current_safe_action()
            with self._lock:
                if self.closing:
                    return "closed", False
                if self._is_stale(step):
                    if safe is None:
                        continue
                    if step == self._step and not self._stalled:
                        self.stalls += 1
                    action, reason, clipped = None, "stalled", False
                self._act(safe if action is None else action)
                self._stalled = False
                self._deadline = self._clock.now() + self._timing.longest_hold
                return reason, clipped

    def watch(self) -> float:
        """Send the safe action if the controller is late; returns seconds until the next check."""
        late = not self.closing and self._clock.now() >= self._deadline
        safe = self._current_safe_action() if late else None
        if not self._lock.acquire(timeout=self._timing.period):
            self.blocked += 1
            return 0.0
        try:
            now = self._clock.now()
            if self.closing:
                return math.inf
            if now < self._deadline:
                # At most a period, because the first step may begin at any time.
                return min(self._deadline - now, self._timing.period)
            if safe is None:
                return 0.0
            self._step += 1  # the action that the loop is computing now is stale
            self.stalls += not self._stalled
            self._stalled = True
            self._deadline = now + self._timing.period
            try:
                self._act(safe)
                self.watchdog_actions += 1
            except BaseException:  # a SystemExit would end the watchdog without a word
                self._on_error(traceback.format_exc())
            return self._timing.period
        finally:
            self._lock.release()

    def close(self) -> bool:
        """Send the safe action as the last action and return whether it was sent. Later calls do
        nothing."""
        self.closing = True
        for _ in range(CLOSING_ATTEMPTS):
            if self.closed_at is not None:
                break
            safe = self._current_safe_action()
            if not self._lock.acquire(timeout=CLOSING_TIMEOUT):
                self._on_error("act() of the robot did not return, so the safe action was not sent")
                break
            try:
                if self.closed_at is None:
                    self._act(safe)
                    self.closed_at = self._clock.now()
            except BaseException:  # a SystemExit would end the loop without a further attempt
                self._on_error(traceback.format_exc())
            finally:
                self._lock.release()
        return self.closed_at is not None

    def _is_stale(self, step: int) -> bool:
        """Whether the watchdog acted since this step began, or the step took too long."""
        late = self._clock.now() > self._step_start + self._timing.longest_hold
        return step != self._step or late

    def _checked(self, action: np.ndarray) -> tuple[np.ndarray | None, str | None, bool]:
        """The action to send or None, why it is None, and whether it was clipped."""
        try:
            found = as_float32(action)
        except Exception:  # an array of another library may raise anything
            return None, "bad action", False
        if found.shape != self._low.shape or not np.isfinite(found).all():
            return None, "bad action", False
        within = np.clip(found, self._low, self._high)
        if (within == found).all():
            return found, None, False
        if self._bad_action == "safe":
            return None, "action out of bounds", False
        return within, None, True

    def _act(self, action: np.ndarray | None) -> None:
        assert action is not None
        self._robot.act(action)
        self.sent += 1

    def _current_safe_action(self) -> np.ndarray:
        """The robot's current safe action; if that is not valid, or another thread has been waiting
        for it for half a period, the newest valid one."""
        if self._asking.acquire(timeout=self._timing.period / 2):
            try:
                found = self._robot.safe_action()
                if self._card.action_problem(found) is None:
                    self._safe = as_float32(found)
                else:
                    self.safe_failures += 1
            except BaseException:
                self.safe_failures += 1
                self._on_error(traceback.format_exc())
            finally:
                self._asking.release()
        else:
            self.safe_failures += 1
        if self._safe is None:
            return np.array(self._card.safe_action, np.float32)
        return self._safe.copy()
