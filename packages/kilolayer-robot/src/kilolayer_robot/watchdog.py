"""A thread that sends the safe action when the loop is late, is stuck or must stop."""

import contextlib
import os
import threading
from collections.abc import Callable

from kilolayer_robot.gate import Gate
from kilolayer_robot.stopping import Signals

# Longest wait in seconds between two checks.
MAX_WAIT = 0.5
# Seconds to wait for the thread at the end.
JOIN_TIMEOUT = 2.0
STUCK_EXIT_CODE = 3
STUCK_MESSAGE = "error: the control loop did not end in time, so its process was ended.\n"


class Watchdog:
    """Watches one gate until `end`.

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
        self._gate, self._signals, self._on_start, self._grace = gate, signals, on_start, grace
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._signals.wake()
        # Not forever, because the thread may be stuck in an `act` that does not return.
        self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        self._on_start()
        while not self._ending.is_set():
            if self._signals.wait(min(self._gate.watch(), MAX_WAIT)):
                self._gate.close()
                if not self._ending.wait(self._grace):
                    # The loop's thread is stuck, for instance in a driver, and will not end.
                    with contextlib.suppress(OSError):
                        os.write(2, STUCK_MESSAGE.encode())
                    os._exit(STUCK_EXIT_CODE)
                return
