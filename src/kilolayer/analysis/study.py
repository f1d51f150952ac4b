"""A study directory as Python objects: the grid of runs that answer one question.

study.json   the plan: the question, the size, the smallest effect that matters, the version that
             made it, and of every run its name, its config and its factors, such as {"depth": 8,
             "seed": 0}; and the study directory that has the runs, relative to this one, if another
             one has
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
from kilolayer.config import RunConfig
from kilolayer.run_directory import RunDirectory
from kilolayer.types import UserError

FORMAT = 1  # of study.json; a folder of another one is refused
SMALLEST_EFFECT = 0.05  # of the range of a score, unless the study's plan says otherwise


@dataclass(frozen=True)
class StudyRun:
    """One cell of the grid. factors: what distinguishes it from the others, by name.

    plan: its config as the study has it, as JSON values.
    """

    name: str
    factors: dict[str, Any]
    path: Path
    failure: str | None
    plan: dict[str, Any]

    @property
    def state(self) -> Literal["finished", "failed", "unfinished", "missing"]:
        if self.failure is not None:
            return "failed"
        if not (self.path / "config.json").exists():
            return "missing"
        return "finished" if RunDirectory(self.path).finished else "unfinished"

    @cached_property
    def planned(self) -> RunConfig:
        """The config that the study has for the run."""
        return RunConfig.from_json(json.dumps(self.plan), f"the study's run {self.name}")

    @property
    def task(self) -> str:
        return self.planned.task.name

    @cached_property
    def run(self) -> Run:
        """The run itself; only where the state is `finished` or `unfinished`."""
        return Run(RunDirectory.open(self.path))


@dataclass(frozen=True)
class Study:
    """question: its short name; asks: the question in a sentence; size: quick, laptop or paper.

    source: the study directory that has the runs, if another one has. smallest_effect: the largest
    difference that would not matter, as a share of what a score can be.
    """

    path: Path
    question: str
    asks: str
    size: str
    runs: tuple[StudyRun, ...]
    source: Path | None = None
    smallest_effect: float = SMALLEST_EFFECT

    @property
    def failed(self) -> int:
        """How many runs broke off for good."""
        return sum(run.state == "failed" for run in self.runs)

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
        StudyRun(name, cell["factors"], home / "runs" / name, _failure(home, name), cell["config"])
        for name, cell in found["runs"].items()
    )
    return Study(
        path, found["question"], found["asks"], found["size"], runs, source,
        found.get("smallest_effect", SMALLEST_EFFECT),
    )  # fmt: skip


def require_planned(study: Study) -> None:
    """Raises UserError, saying what differs, if a run is not the one that the plan names."""
    folder = (study.source or study.path) / "runs"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if unknown := sorted(names - {cell.name for cell in study.runs}):
        raise UserError(
            f"{study.path / 'study.json'} does not match the runs found: {folder} holds "
            f"{unknown[0]}, which the plan does not name. Move it elsewhere."
        )
    for cell in study.runs:
        if cell.state in ("missing", "failed"):
            continue
        planned, found = cell.planned.flat(), cell.run.config.flat()
        wrong = [name for name in {**planned, **found} if planned.get(name) != found.get(name)]
        if wrong:
            name = wrong[0]
            raise UserError(
                f"{study.path / 'study.json'} does not match the run in {cell.path}: {name} is "
                f"{planned.get(name)} in the plan and {found.get(name)} in the run, and "
                f"{len(wrong) - 1} more settings differ. Put the planned run back, or start a new "
                "study with --out."
            )


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
