"""What a study found: verdicts in words, and the plots and tables behind them, as plain data."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from kilolayer.analysis.verdict import Verdict
from kilolayer.types import UserError


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

    @staticmethod
    def from_json(text: str, source: str) -> "Answer":
        """Read what `to_json` wrote; `source` names it in the UserError that anything else gets."""
        try:
            found = json.loads(text)
            return Answer(
                tuple(Verdict(**each) for each in found["verdicts"]),
                tuple(_plot(each) for each in found["plots"]),
                tuple(Table(**_frozen(each)) for each in found["tables"]),
                tuple(found["notes"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{source} does not hold the answer of a study ({error}): run the study again, "
                "which repeats no finished run."
            ) from error


def _plot(found: dict[str, Any]) -> Plot:
    series = tuple(Series(**_frozen(each)) for each in found.pop("series"))
    return Plot(series=series, **_frozen(found))


def _frozen(found: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples, and their lists too."""
    return {name: _tuple(value) for name, value in found.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
