"""Rates and limits of the control loop, and the clock that it reads."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

from kilolayer_robot.errors import bad_field

# Lowest rates: the system's waits have a limit.
SLOWEST = 1e-6
MAX_STEPS = 2**53  # a float can count them


@dataclass(frozen=True)
class Timing:
    """Rates in 1/s and limits.

    rate: control steps per second. plan_rate: plans per second. plan_limit: seconds for which a
    plan is used, counted from the measurement that it was made from. planner_delay: seconds by
    which each plan is delayed, to test a slow planner. watchdog: control periods by which the
    controller may be late; after that the robot gets its safe action. observation_limit: control
    periods after which an observation is too old to act on. Raises UserError for a number out of
    range.
    """

    rate: float = 100.0
    plan_rate: float = 5.0
    plan_limit: float = 1.0
    planner_delay: float = 0.0
    watchdog: float = 2.0
    observation_limit: float = 10.0

    def __post_init__(self) -> None:
        for field in ("rate", "plan_rate", "plan_limit", "watchdog", "observation_limit"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise bad_field(field, value, "it must be above 0", getattr(Timing, field))
            if field in ("rate", "plan_rate") and value < SLOWEST:
                raise bad_field(field, value, f"it must be at least {SLOWEST:g}", SLOWEST)
        if not 0 <= self.planner_delay < math.inf:
            raise bad_field("planner_delay", self.planner_delay, "it must be 0 or more", 0)

    def steps(self, seconds: float) -> int:
        """Control steps in this time; UserError if it is less than one, or endless."""
        steps = seconds * self.rate
        if not math.isfinite(steps) or steps > MAX_STEPS:
            last = MAX_STEPS / self.rate
            raise bad_field("seconds", seconds, "it must be a time that ends", f"{last:.3g}")
        if round(steps) < 1:
            raise bad_field("seconds", seconds, "it must be at least one control step", self.period)
        return round(steps)

    @property
    def period(self) -> float:
        """Seconds of a control step."""
        return 1 / self.rate

    @property
    def longest_hold(self) -> float:
        """Seconds for which the robot may hold an action: one period plus the allowed lateness."""
        return (1 + self.watchdog) * self.period


class Clock(Protocol):
    """Seconds since some instant; they never decrease."""

    def now(self) -> float: ...
    def sleep_until(self, instant: float) -> None: ...


class WallClock:
    """The system's monotonic clock, which does not depend on the time of day."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, instant: float) -> None:
        while (left := instant - time.monotonic()) > 0:
            time.sleep(left)
