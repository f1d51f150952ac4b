"""`kilolayer study`: make or continue a study directory, finish its runs and analyse them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kilolayer
from kilolayer.analysis.answer import Answer
from kilolayer.analysis.study import (
    FORMAT,
    SMALLEST_EFFECT,
    Study,
    load_study,
    require_planned,
)
from kilolayer.config import RunConfig
from kilolayer.lookup import make
from kilolayer.runtime.files import write_atomically
from kilolayer.runtime.lock import file_lock
from kilolayer.runtime.progress import LiveDisplay, ProgressDisplay, SilentDisplay
from kilolayer.studies.cost import GridCost, grid_cost, memory_of_largest
from kilolayer.studies.execute import execute
from kilolayer.studies.executors import (
    Executor,
    Local,
    Ray,
    Slurm,
    check_executor,
    cores_here,
    gpus_here,
)
from kilolayer.studies.grid import Cell
from kilolayer.studies.question import Question, Size
from kilolayer.studies.questions import QUESTIONS
from kilolayer.types import UserError, bad_field

LOCK = "study.lock"


@dataclass(frozen=True)
class StudyResult:
    """report: the path of the HTML page."""

    study: Study
    answer: Answer
    report: Path


def find_question(name: str) -> Question:
    """A question by name, or the question that a user's `module:function` returns."""
    question = make("question", name, QUESTIONS, Question)
    if ":" in name:
        question.require_whole(name)
    return question


def study(
    name: str,
    size: Size = "quick",
    out: str | Path | None = None,
    tasks: Sequence[str] = (),
    depths: Sequence[int] = (),
    seeds: int | None = None,
    executor: str = "local",
    jobs: int | None = None,
    source: str | Path | None = None,
    smallest_effect: float | None = None,
    progress: bool = True,
) -> StudyResult:
    """Answer a question with runs: train the missing runs of its grid, then analyse all of them.

    name: of the question, or `module:function` for your own. out: the study directory, by default
    `studies/NAME-SIZE`; an existing study of the same question is continued. tasks, depths, seeds:
    replace those of the size. executor: `local`, `ray` or `slurm`. jobs: runs at once, by default
    as many as cores and memory allow. source: analyse the runs of this study directory instead of
    training. smallest_effect: the largest difference that does not matter, as a share of the
    score's range; by default that of the existing study, 0.05 for a new one. Raises UserError
    before anything is trained.
    """
    check_executor(executor)
    if jobs is not None and jobs < 1:
        raise bad_field("jobs", jobs, "it must be at least 1", 1)
    if smallest_effect is not None and not 0 < smallest_effect < 1:
        raise bad_field("smallest_effect", smallest_effect, "it lies between 0 and 1", 0.05)
    question = find_question(name)
    display = LiveDisplay() if progress else SilentDisplay()
    try:
        if source is not None:
            return _analysed(question, _borrow(question, Path(source), out, smallest_effect))
        cells = question.cells(question.setup(size, tasks, depths, seeds))
        path = Path(out) if out is not None else Path("studies") / f"{_short(name)}-{size}"
        _merged(path, question, size, cells)  # refused before anything is written
        with file_lock(path / LOCK, f"another command is working on {path}: wait for it."):
            runs = _merged(path, question, size, cells)
            margin = smallest_effect or _smallest_effect(path)
            _write_study(path, question, size, runs, smallest_effect=margin)
            _finish(path, executor, jobs, display)
            display.phase("analyse")
            return _analysed(question, load_study(path))
    finally:
        display.close()


def dry_run(
    name: str,
    size: Size = "quick",
    tasks: Sequence[str] = (),
    depths: Sequence[int] = (),
    seeds: int | None = None,
    calibration: bool = False,
    progress: bool = True,
) -> tuple[Mapping[str, Cell], GridCost]:
    """The runs that `study` would train and what they will cost here; trains and writes nothing."""
    question = find_question(name)
    cells = question.cells(question.setup(size, tasks, depths, seeds))
    display = LiveDisplay() if progress else SilentDisplay()
    try:
        return cells, grid_cost(cells, calibration, display)
    finally:
        display.close()


def _finish(path: Path, executor: str, jobs: int | None, display: ProgressDisplay) -> None:
    """Train the missing runs; start no executor if none is missing."""
    if all(run.state == "finished" for run in load_study(path).runs):
        return
    chosen = _executor(executor, jobs, path)
    try:
        execute(path, chosen, display)
    finally:
        chosen.close()


def _executor(name: str, jobs: int | None, path: Path) -> Executor:
    if name == "local" and (jobs is not None or len(cores_here()) == 1):
        return Local(jobs or 1, gpus_here())
    need = memory_of_largest(load_configs(path))
    if name == "ray":
        return Ray(jobs, need.bytes)
    if name == "slurm":
        return Slurm(jobs, need.bytes, path / "slurm")
    fitting = max(1, need.room // need.bytes)
    return Local(need.gpus or min(len(cores_here()), fitting), gpus_here(need.gpus))


def load_configs(path: Path) -> list[dict[str, Any]]:
    """The config of every run in a study directory."""
    cells = json.loads((path / "study.json").read_text(encoding="utf-8"))["runs"].values()
    return [cell["config"] for cell in cells]


def _merged(path: Path, question: Question, size: str, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """The runs of a study directory: its existing runs and the missing ones of `cells`.

    Raises UserError if the directory holds another question, another size or other runs of the
    same names.
    """
    runs = {
        name: {"factors": cell.factors, "config": cell.config.to_dict()}
        for name, cell in cells.items()
    }
    if not (path / "study.json").exists():
        if path.exists() and {entry.name for entry in path.iterdir()} - {LOCK}:
            raise UserError(f"{path} holds something else: choose another folder with --out.")
        return runs
    there = load_study(path)
    if (there.question, there.size) != (question.name, size):
        raise UserError(
            f"{path} holds the study {there.question} at size {there.size}, not "
            f"{question.name} at {size}: choose another folder with --out."
        )
    if there.source is not None:
        raise UserError(
            f"{path} analyses the runs of {there.source}: choose another folder with --out to "
            "train runs of its own."
        )
    old = json.loads((path / "study.json").read_text(encoding="utf-8"))["runs"]
    # Compared as configs, so that an option newer than the study has its default.
    changed = [
        name
        for name, cell in cells.items()
        if name in old and _config(old[name]["config"], path) != cell.config
    ]
    if changed:
        raise UserError(
            f"{path} holds a run {changed[0]} with another config: choose another folder with "
            "--out for the changed study."
        )
    return runs | old


def _config(values: Mapping[str, Any], path: Path) -> RunConfig:
    return RunConfig.from_json(json.dumps(values), f"the study in {path}")


def _smallest_effect(path: Path) -> float:
    """The value of the existing study, or the default of a new one."""
    there = (path / "study.json").exists()
    return load_study(path).smallest_effect if there else SMALLEST_EFFECT


def _write_study(path: Path, question: Question, size: str, runs: Mapping, **more: Any) -> None:
    found = {
        "format": FORMAT,
        "version": kilolayer.__version__,
        "question": question.name,
        "asks": question.asks,
        "size": size,
        **more,
        "runs": runs,
    }
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / "study.json", json.dumps(found, indent=2) + "\n")


def _borrow(
    question: Question, source: Path, out: str | Path | None, smallest_effect: float | None
) -> Study:
    """A study directory of this question that uses the runs of the study `source`."""
    there = load_study(source)
    lacking = [run.name for run in there.runs if question.needs not in run.factors]
    if lacking:
        raise UserError(
            f"{source} cannot answer {question.name}: its run {lacking[0]} has no factor "
            f"{question.needs}. Train a study of its own, without --from."
        )
    path = Path(out) if out else source.parent / f"{_short(question.name)}-from-{source.name}"
    if (path / "study.json").exists() and load_study(path).question != question.name:
        raise UserError(f"{path} holds another study: choose another folder with --out.")
    runs = json.loads((source / "study.json").read_text(encoding="utf-8"))["runs"]
    where = os.path.relpath(there.source or there.path, path)
    margin = smallest_effect or there.smallest_effect
    _write_study(path, question, there.size, runs, source=where, smallest_effect=margin)
    return load_study(path)


def _analysed(question: Question, found: Study) -> StudyResult:
    require_planned(found)
    # Imported here, since a dry run draws nothing.
    from kilolayer.report.study_report import write_study_report

    answer = question.answer(found)
    write_atomically(found.path / "answer.json", answer.to_json())
    return StudyResult(found, answer, write_study_report(found, answer))


def _short(name: str) -> str:
    return name.rsplit(":", 1)[-1]
