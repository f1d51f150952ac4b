"""A study directory as Python objects: the grid of runs that answer one question.

study.json   the plan: the question, the size, the smallest effect that matters, the version that
             wrote it, and the name, config and factors of every run, such as {"depth": 8,
             "seed": 0}. If another study directory holds the runs: its path, relative to this
             directory
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
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import read_json

FORMAT = 1  # of study.json; any other format is refused
SMALLEST_EFFECT = 0.05  # share of a score's range; study.json may set another one


@dataclass(frozen=True)
class StudyRun:
    """One cell of the grid. factors: the settings that distinguish this run, by name.

    config_values: the config in study.json, as JSON values.
    """

    name: str
    factors: dict[str, Any]
    path: Path
    failure: str | None
    config_values: dict[str, Any]

    @property
    def has_begun(self) -> bool:
        return (self.path / "config.json").exists()

    @property
    def state(self) -> Literal["finished", "failed", "unfinished", "missing"]:
        if self.failure is not None:
            return "failed"
        if not self.has_begun:
            return "missing"
        return "finished" if RunDirectory(self.path).finished else "unfinished"

    @cached_property
    def planned_config(self) -> RunConfig:
        """The config of this run in study.json."""
        return RunConfig.from_json(json.dumps(self.config_values), f"the study's run {self.name}")

    @property
    def task(self) -> str:
        return self.planned_config.task.name

    @cached_property
    def run(self) -> Run:
        """The run, if it has begun."""
        return Run(RunDirectory.open(self.path))


@dataclass(frozen=True)
class Study:
    """question: its name; question_text: the question as a sentence; size: one of the question's.

    source: the study directory that holds the runs, if it is another directory. smallest_effect:
    the largest difference that does not matter, as a share of the score's range.
    """

    path: Path
    question: str
    question_text: str
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
    """Open a study directory; raises UserError if it is no study directory or of another format."""
    file = path / "study.json"
    if not file.is_file():
        raise UserError(
            f"{path} is not a study: it has no study.json. `kilolayer study NAME` makes one."
        )
    remedy = "put it back from a copy, or start a new study in another folder"
    plan = read_json(file, remedy)
    if not isinstance(plan, dict):
        raise UserError(f"{file} is damaged (it is no JSON object): {remedy}.")
    if plan.get("format") != FORMAT:
        raise UserError(
            f"{path} was made by another version of Kilolayer (format {plan.get('format')}, this "
            f"one reads {FORMAT}): use that version ({plan.get('version', 'unknown')}), or start "
            "a new study in another folder."
        )
    try:
        return _study(path, plan)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}): {remedy}."
        ) from error


def _study(path: Path, plan: dict[str, Any]) -> Study:
    source = path / plan["source"] if "source" in plan else None
    home = source or path
    runs = tuple(
        StudyRun(
            name, dict(cell["factors"]), home / "runs" / name, _failure(home, name),
            dict(cell["config"]),
        )
        for name, cell in plan["runs"].items()
    )  # fmt: skip
    if any(run.path.parent != home / "runs" or run.name == ".." for run in runs):
        raise ValueError("a run's name is no name of a folder")
    effect = plan.get("smallest_effect", SMALLEST_EFFECT)
    if not 0 < effect < 1:
        raise ValueError("smallest_effect lies between 0 and 1")
    return Study(path, plan["question"], plan["asks"], plan["size"], runs, source, effect)


def require_matching_plan(study: Study) -> None:
    """Raises UserError, which names the difference, if a run does not match the plan."""
    folder = (study.source or study.path) / "runs"
    # Folders only: the Finder of macOS leaves a file .DS_Store in every folder that it shows.
    inside = folder.iterdir() if folder.is_dir() else ()
    names = {path.name for path in inside if path.is_dir()}
    if unknown := sorted(names - {cell.name for cell in study.runs}):
        raise UserError(
            f"{study.path / 'study.json'} does not match the runs: {folder} holds "
            f"{unknown[0]}, which is not part of the plan. Move it elsewhere."
        )
    for cell in study.runs:
        if cell.state in ("missing", "failed"):
            continue
        planned, actual = cell.planned_config.flat(), cell.run.config.flat()
        wrong = [name for name in {**planned, **actual} if planned.get(name) != actual.get(name)]
        if wrong:
            name = wrong[0]
            raise UserError(
                f"{study.path / 'study.json'} does not match the run in {cell.path}: {name} is "
                f"{planned.get(name)} in the plan and {actual.get(name)} in the run, and "
                f"{len(wrong) - 1} more settings differ. Put the planned run back, or start a new "
                "study with --out."
            )


def load_answer(path: Path) -> Answer:
    """The answer of a study's newest analysis; raises UserError if there is none."""
    file = path / "answer.json"
    if not file.is_file():
        raise UserError(
            f"{path} has no answer.json yet: `kilolayer study` writes it after the analysis. It "
            "repeats no finished run."
        )
    return Answer.from_json(file.read_text(encoding="utf-8"), str(file))


def _failure(path: Path, name: str) -> str | None:
    file = path / "failures" / f"{name}.txt"
    return file.read_text(encoding="utf-8") if file.exists() else None
