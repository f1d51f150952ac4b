"""The result of a study as plain data: verdicts, plots and tables."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kilolayer.analysis.claims import Verdict
from kilolayer.errors import UserError


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
    """verdicts: the most important first. notes: methods, assumptions and excluded runs."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # of all parts

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
            return TypeAdapter(Answer).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "file"
            raise UserError(
                f"{source} does not hold the answer of a study ({place}: {first['msg']}): run the "
                "study again, which repeats no finished run."
            ) from error


def concatenate_answers(first: Answer, second: Answer) -> Answer:
    """One answer with all parts of `first`, followed by all parts of `second`."""
    parts = (field.name for field in dataclasses.fields(Answer))
    return Answer(**{name: getattr(first, name) + getattr(second, name) for name in parts})


def merge_task_answers(answers: Mapping[str, Answer]) -> Answer:
    """Merge the answers of several tasks; every verdict, plot and table names its task."""

    def with_task(part: str, text_field: str) -> tuple[Any, ...]:
        return tuple(
            dataclasses.replace(item, **{text_field: f"{task}: {getattr(item, text_field)}"})
            for task, answer in answers.items()
            for item in getattr(answer, part)
        )

    notes = dict.fromkeys(note for answer in answers.values() for note in answer.notes)
    return Answer(
        with_task("verdicts", "sentence"),
        with_task("plots", "title"),
        with_task("tables", "title"),
        tuple(notes),
    )
