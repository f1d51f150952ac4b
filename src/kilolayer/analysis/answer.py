"""What a study found: verdicts in words, and the plots and tables behind them, as plain data."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from kilolayer.analysis.verdict import Verdict


@dataclass(frozen=True)
class Series:
    """One line, row of bars or cloud of points. low, high: ends of the 95 % interval, if known."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Plot:
    """marks: `(x, text)` of vertical lines, such as the critical depth. log_x: to base 2.

    names: what the bars stand for, by x counted from 0, where the kind is `bars`.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["lines", "points", "bars"] = "lines"
    log_x: bool = False
    marks: tuple[tuple[float, str], ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """rows: cells as text, one for each of the columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Answer:
    """verdicts: the most important first. notes: methods, assumptions and what was left out."""

    verdicts: tuple[Verdict, ...]
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
