"""Signals that end the loop, received even while the loop's thread is busy in compiled code.

Python runs a signal's handler between two bytecodes of the main thread, which may be stuck in a
driver or in ONNX Runtime. The C part of the handler, however, writes the signal's number to a file
descriptor at once. The watchdog waits on that descriptor and sends the safe action from its own
thread.
"""

import contextlib
import signal
import socket
import threading
from types import FrameType

# SIGHUP comes from a closed terminal, SIGTSTP from Ctrl-Z, which would suspend the loop while the
# robot holds its action. Names that a platform lacks are omitted.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")
# Signals that end a process, unless a driver handles them. SIGXCPU comes from a limit of
# real-time priority.
OTHERS = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGPWR")
STOPPING = {int(getattr(signal, name)): name for name in NAMES + OTHERS if hasattr(signal, name)}


class Signals:
    """Within the context, stopping signals are recorded instead of ending the process.

    Only the main thread of a process can handle signals. In other threads `installed` is False, and
    the owner of the main thread must call `ControlLoop.stop`.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.installed = False

    def __enter__(self) -> "Signals":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before: dict[int, object] = {}
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number, name in STOPPING.items():
                if name in NAMES or signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._note)
            self.installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self.installed:
            for number, handler in self._before.items():
                # None stands for a handler that was not set from Python and cannot be restored.
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
            signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> bool:
        """Wait up to this number of seconds or until `wake`; returns whether a signal came."""
        # A timeout of the socket, because `select.select` fails for a descriptor above 1023.
        self._reader.settimeout(max(0.0, seconds))
        with contextlib.suppress(BlockingIOError, TimeoutError):
            for number in self._reader.recv(4096):
                if number in self._before:
                    self.received = self.received or STOPPING[number]
        return self.received is not None

    def wake(self) -> None:
        """Make the waiting thread return."""
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or STOPPING[number]
