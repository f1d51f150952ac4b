"""Ctrl-C and SIGTERM: an end that waits until what was learnt is written."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: the system, or another program, asked this process to end."""

    exit_code = 128 + signal.SIGTERM


INTERRUPTED = 128 + signal.SIGINT  # the exit code after Ctrl-C


# What signals have raised in the command that runs. One that arrives while Python collects garbage
# is printed and lost (`Exception ignored in`); a run still ends by it, at its next round.
_raised: list[KeyboardInterrupt] = []


def _of(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise_stop(number: int, _: Any) -> None:
    _raised.append(_of(number))
    raise _raised[-1]


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
    _raised.clear()
    before = {number: signal.signal(number, _raise_stop) for number in numbers}
    try:
        yield
    finally:
        _raised.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Stop:
    """asked: what to raise once all is written, None while nobody asks for an end."""

    asked: KeyboardInterrupt | None = None


@contextmanager
def held_back(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, the first signal is noted in the `Stop` and told; a second one ends at once.

    Signals reach the main thread alone: in any other one nothing is held back.
    """
    stop = Stop(_raised[-1] if _raised else None)
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
