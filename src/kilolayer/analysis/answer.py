"""The result of a study as plain data: verdicts in words, plots and tables."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kilolayer.analysis.claims import Verdict
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
    """marks: `(x, text)` of vertical lines, such as the critical depth. log_x: axis to base 2.

    names: labels of the bars at x = 0, 1, ...; only for the kind `bars`.
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
    """rows: cells as text, one per column."""

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
        """Read the output of `to_json`; raises UserError, which names `source`, for other text."""
        try:
            found = json.loads(text)
            return Answer(
                tuple(Verdict(**each) for each in found["verdicts"]),
                tuple(_plot(each) for each in found["plots"]),
                tuple(Table(**_frozen(each)) for each in found["tables"]),
                tuple(found["notes"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source} does not hold the answer of a study ({error}): run the study again, "
                "which repeats no finished run."
            ) from error


def followed(first: Answer, second: Answer) -> Answer:
    """One answer with all parts of `first`, followed by all parts of `second`."""
    parts = (field.name for field in dataclasses.fields(Answer))
    return Answer(**{name: getattr(first, name) + getattr(second, name) for name in parts})


def joined(answers: Mapping[str, Answer]) -> Answer:
    """Merge the answers of several tasks; every verdict, plot and table names its task."""

    def named(part: Any, field: str, task: str) -> Any:
        return dataclasses.replace(part, **{field: f"{task}: {getattr(part, field)}"})

    found = answers.items()
    notes = dict.fromkeys(note for answer in answers.values() for note in answer.notes)
    return Answer(
        tuple(named(each, "sentence", task) for task, answer in found for each in answer.verdicts),
        tuple(named(each, "title", task) for task, answer in found for each in answer.plots),
        tuple(named(each, "title", task) for task, answer in found for each in answer.tables),
        tuple(notes),
    )


def _plot(found: dict[str, Any]) -> Plot:
    series = tuple(Series(**_frozen(each)) for each in found.pop("series"))
    return Plot(series=series, **_frozen(found))


def _frozen(found: dict[str, Any]) -> dict[str, Any]:
    """Convert lists to tuples, nested lists too."""
    return {name: _tuple(value) for name, value in found.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
