"""The live display of a long job."""

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressDisplay(Protocol):
    """Told where a job stands; `done` and `total` in any one unit."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str) -> None: ...
    def advance(self, done: int, total: int, **figures: float) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str) -> None: ...
    def advance(self, done: int, total: int, **figures: float) -> None: ...
    def close(self) -> None: ...


class LiveDisplay:
    """One line in the terminal: phase, bar, rates, success, time gone and time left.

    Where the output is no terminal, a plain line is printed at every change of phase and every
    tenth of the way, so that a log shows where a job stands.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._announced: set[str] = set()
        self._tenth = -1
        self._progress = Progress(
            TextColumn("[bold]{task.fields[phase]:<10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, phase="start", figures="")
        self._progress.start()

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False)

    def phase(self, name: str) -> None:
        self._progress.update(self._bar, phase=name)
        if name not in self._announced and not self._console.is_terminal:
            self._console.print(f"{name} ...")
        self._announced.add(name)

    def advance(self, done: int, total: int, **figures: float) -> None:
        text = "  ".join(
            f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items()
        )
        self._progress.update(self._bar, completed=done, total=total, figures=text)
        tenth = 10 * done // total
        if tenth != self._tenth and not self._console.is_terminal:
            self._console.print(f"{100 * done // total:3d}%  {text}", highlight=False)
        self._tenth = tenth

    def close(self) -> None:
        self._progress.stop()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or isinstance(value, int) else f"{value:.2f}"
