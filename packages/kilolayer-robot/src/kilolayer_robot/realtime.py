"""Real-time priority and core pinning for the loop, where the system permits them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kilolayer_robot.errors import bad_field

MAX_PRIORITY = 98  # the watchdog's priority is one higher


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
        cores = _cores()
        if self.cpu is not None and cores and self.cpu not in cores:
            named = ", ".join(map(str, sorted(cores)))
            raise bad_field("cpu", self.cpu, f"this process may use the cores {named}", min(cores))

    @contextlib.contextmanager
    def applied(self) -> Iterator[list[str]]:
        """Apply to the calling thread within the context, which gives the sentences of `apply`."""
        before = _current()
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


def _current() -> tuple[int, Any, set[int]] | None:
    """The calling thread's scheduler, its parameter and its cores; None where there are none."""
    if not hasattr(os, "sched_getscheduler"):
        return None
    return os.sched_getscheduler(0), os.sched_getparam(0), os.sched_getaffinity(0)


def _cores() -> set[int]:
    """Cores that this process may use; empty where the system does not list them."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
