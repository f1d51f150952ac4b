"""The live display of a long job."""

from collections.abc import Iterable
from typing import Protocol

import jax
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

# The remaining time comes from the speed of the last minutes: a study advances in steps of many
# seconds, so the library's window of 30 s holds too few of them.
SPEED_WINDOW_SECONDS = 600.0


class ProgressDisplay(Protocol):
    """Shows the progress of a job; `done` and `total` have the same unit."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str) -> None: ...
    def advance(self, done: int, total: int, **figures: float | str) -> None: ...
    def close(self) -> None: ...


class SilentDisplay:
    """Shows nothing."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str) -> None: ...
    def advance(self, done: int, total: int, **figures: float | str) -> None: ...
    def close(self) -> None: ...


class _TwoLineProgress(Progress):
    """The bar, with the figures on a second line, so that a narrow terminal truncates neither."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["figures"]:
                yield Text(task.fields["figures"])


class LiveDisplay:
    """Two lines in the terminal: phase, bar, elapsed and remaining time; below them the figures.

    If the output is not a terminal, a plain line is printed for every new phase and for every tenth
    of the progress.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._announced: set[str] = set()
        self._tenth = -1
        self._progress = _TwoLineProgress(
            TextColumn("[bold]{task.fields[phase]:<10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=SPEED_WINDOW_SECONDS,
        )
        self._bar = self._progress.add_task("", total=None, phase="start", figures="")
        self._progress.start()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, markup=False)

    def phase(self, name: str) -> None:
        self._progress.update(self._bar, phase=name)
        if name not in self._announced and not self._console.is_terminal:
            self._console.print(f"{name} ...")
        self._announced.add(name)

    def advance(self, done: int, total: int, **figures: float | str) -> None:
        text = "  ".join(
            f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items()
        )
        self._progress.update(self._bar, completed=done, total=total, figures=text)
        tenth = 10 * done // total
        if tenth != self._tenth and not self._console.is_terminal:
            seconds = self._progress.tasks[0].time_remaining
            left = "" if seconds is None else f"  left {duration(seconds)}"
            self._console.print(f"{100 * done // total:3d}%  {text}{left}", highlight=False)
        self._tenth = tenth

    def close(self) -> None:
        self._progress.stop()


def make_display(progress: bool) -> ProgressDisplay:
    """A live display if `progress` is set and this is the first process, else a silent one."""
    return LiveDisplay() if progress and jax.process_index() == 0 else SilentDisplay()


def duration(seconds: float) -> str:
    """A duration as text: `35 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 10 or isinstance(value, int) else f"{value:.2f}"
