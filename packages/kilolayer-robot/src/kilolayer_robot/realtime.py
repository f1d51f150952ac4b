"""What keeps the loop on time: priority, a core of its own, and no pauses of CPython.

The system may refuse priority and core. CPython's own pauses are garbage collection and thread
switching.
"""

import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kilolayer_robot.errors import bad_field

MAX_PRIORITY = 98  # the watchdog's priority is one higher
# Seconds after which a computing thread lets another run. CPython's default is ten times as long,
# half of a step at 100 Hz.
SWITCH_INTERVAL = 0.0005
# Seconds between two collections of the youngest objects, and of all objects that are not frozen.
YOUNG_INTERVAL, ALL_INTERVAL = 1.0, 30.0
# A collection starts only if the last of its kind took less than this share of the idle time. One
# that never fits is made after this many intervals anyway, because garbage grows without limit.
IDLE_SHARE, OVERDUE = 0.5, 20


@dataclass(frozen=True)
class Realtime:
    """priority: SCHED_FIFO priority of the loop's thread, 1 to 98; 0 keeps the ordinary scheduler.
    The watchdog's priority is one higher. cpu: the core to which the loop's thread is pinned; None:
    any. Raises UserError for a number out of range."""

    priority: int = 0
    cpu: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= MAX_PRIORITY:
            nearest = min(max(self.priority, 0), MAX_PRIORITY)
            raise bad_field("priority", self.priority, f"it must be 0 to {MAX_PRIORITY}", nearest)
        # Empty where the system does not list the cores that this process may use.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        if self.cpu is not None and cores and self.cpu not in cores:
            named = ", ".join(map(str, sorted(cores)))
            raise bad_field("cpu", self.cpu, f"this process may use the cores {named}", min(cores))

    @contextlib.contextmanager
    def applied(self) -> Iterator[list[str]]:
        """Apply to the calling thread within the context, which gives the sentences of `apply`."""
        before = None
        if hasattr(os, "sched_getscheduler"):  # not on every system
            before = os.sched_getscheduler(0), os.sched_getparam(0), os.sched_getaffinity(0)
        try:
            yield self.apply()
        finally:
            if before is not None:
                policy, parameter, cores = before
                with contextlib.suppress(OSError):
                    os.sched_setscheduler(0, policy, parameter)
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(0, cores)

    def apply(self, above: int = 0) -> list[str]:
        """Apply to the calling thread; returns a sentence for each setting that was not permitted.

        above: added to the priority.
        """
        refused = []
        if self.priority:
            parameter = getattr(os, "sched_param", None)
            try:
                if parameter is None:
                    raise OSError(0, "this system has no SCHED_FIFO")
                os.sched_setscheduler(0, os.SCHED_FIFO, parameter(self.priority + above))
            except OSError as error:
                refused.append(
                    f"no real-time priority {self.priority + above}: {error.strerror}; allow it "
                    "with `ulimit -r 99` or the capability CAP_SYS_NICE"
                )
        if self.cpu is not None:
            try:
                os.sched_setaffinity(0, {self.cpu})
            except (AttributeError, OSError) as error:
                refused.append(f"not pinned to core {self.cpu}: {error}")
        return refused


class IdleCollector:
    """Collects garbage between two control steps, when there is time for it.

    Automatic collection is off meanwhile. Objects that existed when the loop began are frozen, so a
    collection visits only objects that the loop and the planner made later. longest: seconds of the
    longest pause.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._took = {0: 0.0, 2: 0.0}
        now = time.monotonic()
        self._last = {0: now, 2: now}

    def collect(self, idle: float) -> None:
        """Collect if a collection is due and fits into `idle` seconds."""
        now = time.monotonic()
        for generation, interval in ((2, ALL_INTERVAL), (0, YOUNG_INTERVAL)):
            elapsed = now - self._last[generation]
            fits = self._took[generation] < IDLE_SHARE * idle
            if elapsed > interval and (fits or elapsed > OVERDUE * interval):
                gc.collect(generation)
                done = time.monotonic()
                self._took[generation] = done - now
                self._last[generation] = done
                self.longest = max(self.longest, done - now)
                return


@contextlib.contextmanager
def controlled_gc() -> Iterator[IdleCollector]:
    """In the context only the returned collector collects garbage, and threads switch sooner."""
    interval, enabled = sys.getswitchinterval(), gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield IdleCollector()
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        if enabled:
            gc.enable()
