"""Ctrl-C and SIGTERM: an end that waits until what was learnt is written."""

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SOON = 0.01  # seconds


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system, or another program, asked this process to end."""

    exit_code = 128 + signal.SIGTERM


INTERRUPTED = 128 + signal.SIGINT  # the exit code after Ctrl-C


def _of(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise_stop(number: int, _: Any) -> None:
    raise _of(number)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Inside, SIGTERM ends the program in order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    # A program that was begun in the background of a shell ignores Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _raise_stop) for number in numbers}
    try:
        with _none_lost():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _none_lost() -> Iterator[None]:
    """Send a signal once more whose exception Python could not raise.

    Where one arrives while garbage is collected, and JAX has Python code run then, its exception is
    printed and passed over: the program would go on as if nobody had asked.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            before(lost)
            return
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        # Not from in here, where it would be lost too.
        again = threading.Timer(SOON, _thread.interrupt_main, [number])
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@dataclass
class Stop:
    """asked: what to raise once all is written, None while nobody asks for an end."""

    asked: KeyboardInterrupt | None = None


@contextmanager
def held_back(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, the first signal is noted in the `Stop` and told; a second one ends at once.

    Signals reach the main thread alone: in any other one nothing is held back.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _: Any) -> None:
        if stop.asked is not None:
            raise stop.asked
        stop.asked = _of(number)
        tell("stopping after this round, with a checkpoint; once more stops at once")

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
