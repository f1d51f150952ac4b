"""Threads that send the safe action when the loop is late, is stuck or must stop."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable

from kilolayer_robot.gate import Gate
from kilolayer_robot.stopping import Signals

# Longest wait in seconds between two checks.
MAX_WAIT = 0.5
# Seconds to wait for each thread at the end.
JOIN_TIMEOUT = 2.0
# Longest grace that a wait can take, in seconds.
MAX_GRACE = 1e6
# Further seconds after which the other thread ends the process, if the first one is stuck too.
SECOND_GRACE = 2.0
STUCK_EXIT_CODE = 3
STUCK_MESSAGE = "error: the control loop did not end in time, so its process was ended.\n"


class Watchdog:
    """Watches one gate until `end`.

    One thread watches for a late controller, another one for signals: an `act` that does not return
    may block either of them.

    grace: seconds after a stopping signal within which the loop must end. After that the watchdog
    ends the process with exit code 3, with the safe action as the last action. None: never.
    """

    def __init__(
        self,
        gate: Gate,
        signals: Signals,
        on_start: Callable[[], None] = lambda: None,
        grace: float | None = None,
    ):
        self._gate, self._signals, self._on_start = gate, signals, on_start
        self._grace = math.inf if grace is None else grace
        self._signal_time = math.inf
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._watch, "watchdog"), (self._obey, "signals"))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ending.set()
        self._signals.wake()
        for thread in self._threads:
            if thread.ident is not None:
                # Not forever, because it may be stuck in an `act` that does not return.
                thread.join(JOIN_TIMEOUT)

    def _watch(self) -> None:
        self._on_start()
        while not self._ending.wait(min(self._gate.watch(), MAX_WAIT)):
            self._end_stuck_process(self._grace + SECOND_GRACE)

    def _obey(self) -> None:
        self._on_start()
        while not self._ending.is_set():
            if self._signals.wait(MAX_WAIT):
                self._signal_time = time.monotonic()
                self._gate.close()
                while not self._ending.wait(min(self._grace, MAX_WAIT)):
                    self._end_stuck_process(self._grace)

    def _end_stuck_process(self, grace: float) -> None:
        """End the process if the loop's thread has not ended in time, for instance because it is
        stuck in a driver."""
        if time.monotonic() - self._signal_time >= grace:
            with contextlib.suppress(OSError):
                os.write(2, STUCK_MESSAGE.encode())
            os._exit(STUCK_EXIT_CODE)
