"""`kilolayer study`: create or continue a study directory, finish its runs and analyse them."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kilolayer
from kilolayer.analysis.answer import Answer
from kilolayer.analysis.groups import TASK, varying_factors
from kilolayer.analysis.study import (
    FORMAT,
    SMALLEST_EFFECT,
    Study,
    load_study,
    require_matching_plan,
)
from kilolayer.errors import UserError, bad_field, require_at_least, require_choice
from kilolayer.lookup import make
from kilolayer.runtime.files import file_lock, write_atomically
from kilolayer.runtime.progress import LiveDisplay, ProgressDisplay, SilentDisplay
from kilolayer.studies.cost import GridCost, grid_cost, memory_of_largest
from kilolayer.studies.execute import execute
from kilolayer.studies.executors import (
    Executor,
    LocalExecutor,
    RayExecutor,
    SlurmExecutor,
    available_cores,
    available_gpus,
)
from kilolayer.studies.grid import Cell
from kilolayer.studies.question import Question, Size
from kilolayer.studies.questions import QUESTIONS

LOCK = "study.lock"
EXECUTORS = ("local", "ray", "slurm")


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
        question.validate(name)
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
    """Answer a question with runs: train the missing runs of its grid, then analyse all runs.

    name: of the question, or `module:function` for your own. out: the study directory, by default
    `studies/NAME-SIZE`; an existing study of the same question is continued. tasks, depths, seeds:
    replace those of the size. executor: `local`, `ray` or `slurm`. jobs: number of runs at the same
    time, by default limited by cores and memory. source: analyse the runs of this study directory
    instead of training. smallest_effect: the largest difference that does not matter, as a share
    of the score's range; by default that of the existing study, 0.05 for a new study. Raises
    UserError before anything is trained.
    """
    require_choice("executor", executor, EXECUTORS)
    check_options(jobs, smallest_effect)
    question = find_question(name)
    if source is not None:
        if tasks or depths or seeds is not None or jobs is not None:
            raise UserError(
                f"all runs of {source} are analysed and none is trained: --from goes without "
                "--task, --depths, --seeds and --jobs."
            )
        return _analyse(question, _reuse_runs(question, Path(source), out, smallest_effect))
    cells = question.cells(question.setup(size, tasks, depths, seeds))
    path = Path(out) if out is not None else Path("studies") / f"{_short_name(name)}-{size}"
    _planned_runs(path, question, size, cells)  # refuses before anything is written
    busy = f"another command is working on {path}: wait for it."
    with closing(_display(progress)) as display, file_lock(path / LOCK, busy):
        runs = _planned_runs(path, question, size, cells)
        exists = (path / "study.json").exists()
        stored_effect = load_study(path).smallest_effect if exists else SMALLEST_EFFECT
        margin = smallest_effect or stored_effect
        _write_plan(path, question, size, runs, smallest_effect=margin)
        if any(run.state != "finished" for run in load_study(path).runs):
            with closing(_make_executor(executor, jobs, path)) as workers:
                execute(path, workers, display)
        display.phase("analyse")
        return _analyse(question, load_study(path))


def check_options(jobs: int | None, smallest_effect: float | None) -> None:
    """Raises UserError for a value out of range."""
    require_at_least(1, jobs=jobs)
    if smallest_effect is not None and not 0 < smallest_effect < 1:
        raise bad_field("smallest_effect", smallest_effect, "it lies between 0 and 1", 0.05)


def dry_run(
    name: str,
    size: Size = "quick",
    tasks: Sequence[str] = (),
    depths: Sequence[int] = (),
    seeds: int | None = None,
    calibration: bool = False,
    progress: bool = True,
) -> GridCost:
    """The cost on this machine of the runs that `study` would train; trains and writes nothing."""
    question = find_question(name)
    cells = question.cells(question.setup(size, tasks, depths, seeds))
    with closing(_display(progress)) as display:
        return grid_cost(cells, calibration, display)


def _display(progress: bool) -> ProgressDisplay:
    """Like `make_display`, which asks JAX for its devices and so would hold the runs' GPUs."""
    return LiveDisplay() if progress else SilentDisplay()


def _make_executor(name: str, jobs: int | None, path: Path) -> Executor:
    if name == "local" and (jobs is not None or len(available_cores()) == 1):
        return LocalExecutor(jobs or 1, available_gpus())
    need = memory_of_largest([run.config_values for run in load_study(path).runs])
    if name == "ray":
        return RayExecutor(jobs, need.bytes)
    if name == "slurm":
        return SlurmExecutor(jobs, need.bytes, path / "slurm")
    fitting = max(1, need.device_bytes // need.bytes)
    return LocalExecutor(
        need.gpus or min(len(available_cores()), fitting), available_gpus(need.gpus)
    )


def _stored_runs(study: Study) -> dict[str, Any]:
    """The runs of an existing study, as in study.json."""
    return {run.name: {"factors": run.factors, "config": run.config_values} for run in study.runs}


def _planned_runs(
    path: Path, question: Question, size: str, cells: Mapping[str, Cell]
) -> dict[str, Any]:
    """The runs of a study directory: its existing runs and the missing runs of `cells`.

    Raises UserError if the directory holds another question, another size, other runs of the same
    names or the same runs of other names.
    """
    runs = {
        name: {"factors": cell.factors, "config": cell.config.to_dict()}
        for name, cell in cells.items()
    }
    if not (path / "study.json").exists():
        if path.exists() and {entry.name for entry in path.iterdir()} - {LOCK}:
            raise UserError(f"{path} holds something else: choose another folder with --out.")
        return runs
    existing = load_study(path)
    if (existing.question, existing.size) != (question.name, size):
        raise UserError(
            f"{path} holds the study {existing.question} at size {existing.size}, not "
            f"{question.name} at {size}: choose another folder with --out."
        )
    if existing.source is not None:
        raise UserError(
            f"{path} analyses the runs of {existing.source}: choose another folder with --out to "
            "train its own runs."
        )
    # Compared as configs, so that an option newer than the study has its default.
    changed = [
        run.name
        for run in existing.runs
        if run.name in cells and run.planned_config != cells[run.name].config
    ]
    if changed:
        raise UserError(
            f"{path} holds a run {changed[0]} with another config: choose another folder with "
            "--out for the changed study."
        )
    # Names have the task in studies of several tasks only. A second copy would count as a seed.
    others = {run.planned_config: run.name for run in existing.runs if run.name not in cells}
    known = {run.name for run in existing.runs}
    copies = [name for name in cells if name not in known and cells[name].config in others]
    if copies:
        raise UserError(
            f"{path} holds the run {copies[0]} already, as {others[cells[copies[0]].config]}: give "
            "the tasks of its first command again, or choose another folder with --out."
        )
    return runs | _stored_runs(existing)


def _write_plan(path: Path, question: Question, size: str, runs: Mapping, **more: Any) -> None:
    plan = {
        "format": FORMAT,
        "version": kilolayer.__version__,
        "question": question.name,
        "asks": question.text,
        "size": size,
        **more,
        "runs": runs,
    }
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / "study.json", json.dumps(plan, indent=2) + "\n")


def _reuse_runs(
    question: Question, source: Path, out: str | Path | None, smallest_effect: float | None
) -> Study:
    """A study directory of this question that uses the runs of the study `source`."""
    existing = load_study(source)
    missing = [run.name for run in existing.runs if question.required_factor not in run.factors]
    if missing:
        raise UserError(
            f"{source} cannot answer {question.name}: its run {missing[0]} has no factor "
            f"{question.required_factor}. Train a new study, without --from."
        )
    varying = varying_factors([run.factors for run in existing.runs])
    if foreign := [name for name in varying if name not in {*question.factors, TASK}]:
        raise UserError(
            f"{source} cannot answer {question.name}: its runs differ by {foreign[0]} too, so they "
            "would count as seeds of one setting. Train a new study, without --from."
        )
    path = Path(out) if out else source.parent / f"{_short_name(question.name)}-from-{source.name}"
    home = (existing.source or existing.path).resolve()
    if (path / "study.json").exists():
        held = load_study(path)
        # Its plan is written anew, and what it stored belongs to runs of the same names.
        same_runs = held.source is not None and held.source.resolve() == home
        if held.question != question.name or not same_runs:
            raise UserError(
                f"{path} holds another study, or one of other runs: choose another folder with "
                "--out."
            )
    runs_in = os.path.relpath(home, path.resolve())
    margin = smallest_effect or existing.smallest_effect
    runs = _stored_runs(existing)
    _write_plan(path, question, existing.size, runs, source=runs_in, smallest_effect=margin)
    return load_study(path)


def _analyse(question: Question, study: Study) -> StudyResult:
    require_matching_plan(study)
    # Imported here, since a dry run draws nothing.
    from kilolayer.report.study_report import write_study_report

    answer = question.answer(study)
    write_atomically(study.path / "answer.json", answer.to_json())
    return StudyResult(study, answer, write_study_report(study, answer))


def _short_name(name: str) -> str:
    return name.rsplit(":", 1)[-1]
