"""A study directory as Python objects: the grid of runs that answer one question.

study.json   the question, the size, the version that made it, and of every run its name, its config
             and its factors, such as {"depth": 8, "seed": 0}; and the study directory that has the
             runs, relative to this one, if another one has
runs/NAME/   the run directories
failures/NAME.txt   why a run failed, twice
answer.json, report.html   written when the study is analysed
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.load import Run
from kilolayer.run_directory import RunDirectory
from kilolayer.types import UserError

FORMAT = 1  # of study.json; a folder of another one is refused


@dataclass(frozen=True)
class StudyRun:
    """One cell of the grid. factors: what distinguishes it from the others, by name."""

    name: str
    factors: dict[str, Any]
    path: Path
    failure: str | None

    @property
    def state(self) -> Literal["finished", "failed", "unfinished", "missing"]:
        if self.failure is not None:
            return "failed"
        if not (self.path / "config.json").exists():
            return "missing"
        return "finished" if RunDirectory(self.path).finished else "unfinished"

    @cached_property
    def run(self) -> Run:
        """The run itself; only where the state is `finished` or `unfinished`."""
        return Run(RunDirectory.open(self.path))


@dataclass(frozen=True)
class Study:
    """question: its short name; asks: the question in a sentence; size: quick, laptop or paper.

    source: the study directory that has the runs, if another one has.
    """

    path: Path
    question: str
    asks: str
    size: str
    runs: tuple[StudyRun, ...]
    source: Path | None = None

    @property
    def finished(self) -> tuple[StudyRun, ...]:
        return tuple(run for run in self.runs if run.state == "finished")


def load_study(path: Path) -> Study:
    """Open a study directory; raises UserError if it is none or of another version."""
    file = path / "study.json"
    if not file.is_file():
        raise UserError(
            f"{path} is not a study: it has no study.json. `kilolayer study NAME` makes one."
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from error
    if found.get("format") != FORMAT:
        raise UserError(
            f"{path} was made by another version of Kilolayer (format {found.get('format')}, this "
            f"one reads {FORMAT}): use that version ({found.get('version', 'unknown')}), or start "
            "a new study in another folder."
        )
    source = path / found["source"] if "source" in found else None
    home = source or path
    runs = tuple(
        StudyRun(name, cell["factors"], home / "runs" / name, _failure(home, name))
        for name, cell in found["runs"].items()
    )
    return Study(path, found["question"], found["asks"], found["size"], runs, source)


def load_answer(path: Path) -> Answer:
    """The answer that the newest analysis of a study left; raises UserError if there is none."""
    file = path / "answer.json"
    if not file.is_file():
        raise UserError(
            f"{path} has no answer.json yet: `kilolayer study` writes it when it has analysed the "
            "runs, and repeats no finished one."
        )
    return Answer.from_json(file.read_text(encoding="utf-8"), str(file))


def _failure(path: Path, name: str) -> str | None:
    file = path / "failures" / f"{name}.txt"
    return file.read_text(encoding="utf-8") if file.exists() else None
