"""A study directory as Python objects: the grid of runs that answer one question.

study.json   the plan: the question, the size, the smallest effect that matters, the version that
             wrote it, and the name, config and factors of every run, such as {"depth": 8,
             "seed": 0}. If another study directory holds the runs: the path to that directory,
             relative to this one
runs/NAME/   the run directories
failures/NAME.txt   the last output of a run that failed twice
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

FORMAT = 1  # of study.json; any other format is refused
SMALLEST_EFFECT = 0.05  # share of a score's range; study.json may set another one


@dataclass(frozen=True)
class StudyRun:
    """One cell of the grid. factors: the settings that distinguish this run, by name.

    plan: the config in study.json, as JSON values.
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
        """The config that study.json has for this run."""
        return RunConfig.from_json(json.dumps(self.plan), f"the study's run {self.name}")

    @property
    def task(self) -> str:
        return self.planned.task.name

    @cached_property
    def run(self) -> Run:
        """The run; only in the states `finished` and `unfinished`."""
        return Run(RunDirectory.open(self.path))


@dataclass(frozen=True)
class Study:
    """question: its short name; asks: the question in a sentence; size: one of the question's.

    source: the study directory that holds the runs, if it is another one. smallest_effect: the
    largest difference that does not matter, as a share of the score's range.
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
        """The number of runs that failed."""
        return sum(run.state == "failed" for run in self.runs)

    @property
    def finished(self) -> tuple[StudyRun, ...]:
        return tuple(run for run in self.runs if run.state == "finished")


def load_study(path: Path) -> Study:
    """Open a study directory; raises UserError if it is no study or has another format."""
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
    """Raises UserError, which names the difference, if a run does not match the plan."""
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
    """The answer of a study's newest analysis; raises UserError if there is none."""
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
