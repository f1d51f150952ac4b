"""Keeps CPython's own pauses out of the loop: garbage collection and thread switching."""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds after which a computing thread lets another run. CPython's default is ten times as long,
# half of a step at 100 Hz.
SWITCH_INTERVAL = 0.0005
# Seconds between two collections of the youngest objects, and of all objects that are not frozen.
YOUNG_INTERVAL, ALL_INTERVAL = 1.0, 30.0
# A collection starts only if the last of its kind took less than this share of the idle time. One
# that never fits is made after this many intervals anyway, because garbage grows without limit.
IDLE_SHARE, OVERDUE = 0.5, 20


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


@contextmanager
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
