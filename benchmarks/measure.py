"""Timing: jitted programs, and one thing against its yardstick, called in turn."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

RESIDENT_RESET = Path("/proc/self/clear_refs")
RESIDENT = Path("/proc/self/status")


def seconds_of(function: Callable, *arguments: Any) -> tuple[Any, float]:
    """Call once and wait: `(result, seconds)`."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


@dataclass(frozen=True)
class Program:
    """A compiled function and what it is called with; calling it runs it and waits."""

    function: Any
    arguments: tuple[Any, ...]
    compile_seconds: float

    @staticmethod
    def compile(function: Callable, *arguments: Any) -> "Program":
        """compile_seconds counts tracing, too."""
        start = time.perf_counter()
        # A function of its own: what was traced before under the same name would cost nothing.
        compiled = jax.jit(lambda *inputs: function(*inputs)).lower(*arguments).compile()
        return Program(compiled, arguments, time.perf_counter() - start)

    @property
    def temporary_bytes(self) -> int:
        """What it needs beside its arguments and its results."""
        return self.function.memory_analysis().temp_size_in_bytes

    @property
    def peak_bytes(self) -> int:
        """Arguments, results and all that lies between, nothing written in place."""
        sizes = self.function.memory_analysis()
        return sum(
            (sizes.argument_size_in_bytes, sizes.output_size_in_bytes, sizes.temp_size_in_bytes)
        )

    def __call__(self) -> Any:
        return jax.block_until_ready(self.function(*self.arguments))


@dataclass(frozen=True)
class Figures:
    """What was measured of one thing: seconds per call, one per repeat; bytes where they are told.

    items: how many of what is counted one call does. resident_bytes: by how much the process grew.
    """

    seconds: tuple[float, ...]
    items: int = 1
    compile_seconds: float = 0.0
    temporary_bytes: int = 0
    peak_bytes: int = 0
    resident_bytes: int | None = None

    @property
    def each(self) -> float:
        """Seconds per item, the median."""
        return statistics.median(self.seconds) / self.items

    @property
    def spread(self) -> float:
        """The largest distance of a repeat from the median, as a share of it."""
        return max(abs(seconds / statistics.median(self.seconds) - 1) for seconds in self.seconds)


@dataclass(frozen=True)
class Row:
    """Something measured and, where there is one, the straightforward formulation of the same.

    size: what the rows of a table vary.
    """

    name: str
    size: int
    ours: Figures
    yardstick: Figures | None = None

    @property
    def speed(self) -> float | None:
        """How many times as fast as the yardstick."""
        return self.yardstick.each / self.ours.each if self.yardstick else None

    @property
    def shrinkage(self) -> float | None:
        """How many times the yardstick's temporary memory is larger."""
        if self.yardstick is None:
            return None
        return self.yardstick.temporary_bytes / max(1, self.ours.temporary_bytes)


def alternate(calls: Sequence[Callable[[], Any]], repeats: int) -> list[tuple[float, ...]]:
    """Seconds of each call, `repeats` times in turn after a first round that does not count."""
    rounds = [[seconds_of(call)[1] for call in calls] for _ in range(1 + repeats)]
    return list(zip(*rounds[1:], strict=True))


def compare(
    name: str,
    size: int,
    ours: Program,
    yardstick: Program | None,
    repeats: int,
    items: tuple[int, int] = (1, 1),
) -> Row:
    """Run both in turn; items: of ours and of the yardstick."""
    programs = [program for program in (ours, yardstick) if program is not None]
    figures = [
        Figures(
            seconds,
            count,
            program.compile_seconds,
            program.temporary_bytes,
            program.peak_bytes,
            resident_growth(program),
        )
        for program, count, seconds in zip(
            programs, items, alternate(programs, repeats), strict=False
        )
    ]
    return Row(name, size, *figures)


def resident_growth(call: Callable[[], Any]) -> int | None:
    """By how many bytes the process grows while it runs `call`; None where Linux does not tell."""
    try:
        RESIDENT_RESET.write_text("5")  # the peak starts anew from what is resident now
    except OSError:
        return None
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = dict(line.split(":", 1) for line in RESIDENT.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def machine() -> str:
    """Cores, processor and JAX's platform, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{os.cpu_count()} cores of {name}, JAX on its {jax.default_backend()}"


def busy(load: float) -> str:
    """A sentence if the machine did other work before, given its load average then."""
    return f"The machine was not idle: its load was {load:.1f} before.\n" if load > 0.5 else ""
