"""Ctrl-C and SIGTERM: a run ends after its results are saved."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESEND_DELAY = 0.01  # seconds


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM."""

    exit_code = 128 + signal.SIGTERM


INTERRUPTED = 128 + signal.SIGINT  # the exit code after Ctrl-C


def _exception_for(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise_stop(number: int, _: Any) -> None:
    raise _exception_for(number)


@contextmanager
def signals_raise() -> Iterator[None]:
    """In the context, SIGTERM raises an exception, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    # A program that a shell started in the background ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    with _handled(numbers, _raise_stop), _resend_lost_signals():
        yield


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """In the context, the handler gets these signals."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def _resend_lost_signals() -> Iterator[None]:
    """Resend a signal whose exception Python could not raise.

    If a signal arrives during garbage collection, while JAX runs Python code, Python prints the
    exception and continues. Without a resend the program would ignore the signal.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            before(lost)
            return
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        # An exception raised in this hook would be lost too. Only a signal sent to the thread
        # itself ends a wait in a system call.
        main_thread = threading.main_thread().ident
        again = threading.Timer(RESEND_DELAY, signal.pthread_kill, [main_thread, number])
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@dataclass
class StopRequest:
    """interrupt: the exception to raise after saving; None before a signal."""

    interrupt: KeyboardInterrupt | None = None


@contextmanager
def defer_signals(notify: Callable[[str], None]) -> Iterator[StopRequest]:
    """In the context, the first signal is recorded and announced; a second one is raised at once.

    Only the main thread receives signals; in other threads this has no effect.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _: Any) -> None:
        if stop.interrupt is not None:
            raise stop.interrupt
        stop.interrupt = _exception_for(number)
        notify("stopping after this round, with a checkpoint; a second signal stops at once")

    with _handled(SIGNALS, note):
        yield stop
