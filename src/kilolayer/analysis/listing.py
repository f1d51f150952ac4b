"""List the runs below a folder: the task, progress and score of each."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kilolayer.analysis.load import Run
from kilolayer.errors import UserError, nearest
from kilolayer.run_directory import RunDirectory

State = Literal["finished", "unfinished", "failed", "damaged"]


@dataclass(frozen=True)
class ListedRun:
    """One run directory.

    name: its path below the folder. task, depth, seed: None where the config cannot be read.
    success, time_at_goal: of the newest evaluation, None before the first; time in control steps.
    state: failed if training stopped on an error (a number was not finite, or environments
    diverged), damaged if config or metrics cannot be read. progress: share of the training that is
    logged. bytes: size of all files.
    """

    name: str
    path: Path
    state: State
    bytes: int
    task: str | None = None
    depth: int | None = None
    seed: int | None = None
    success: float | None = None
    time_at_goal: float | None = None
    progress: float = 0.0


def list_runs(folder: Path) -> list[ListedRun]:
    """All runs below a folder, or the folder itself if it is a run, in alphabetical order.

    Seeds that train as one program count as one run each. Raises UserError if there is no folder or
    no run in it.
    """
    runs = [_summarise(path, folder) for path in sorted(_run_directories(folder))]
    if not runs:
        missing = "run in" if folder.is_dir() else "folder"
        raise UserError(
            f"there is no {missing} {folder}: give the folder that holds your runs, or make a "
            "first run with `kilolayer train`."
        )
    return runs


def find_run(runs: Sequence[ListedRun], name: str) -> ListedRun:
    """The run of this name; raises UserError with the nearest name if there is none."""
    by_name = {run.name: run for run in runs}
    if name not in by_name:
        raise UserError(
            f"there is no run {name!r} here; the nearest name is {nearest(name, by_name)!r}."
        )
    return by_name[name]


def _run_directories(folder: Path) -> Iterator[Path]:
    for path, directories, files in os.walk(folder):
        if "config.json" not in files:
            continue
        if "seeds.json" not in files:
            yield Path(path)
        # The members of a program of several seeds are the only runs inside a run.
        directories[:] = [name for name in directories if name.startswith("seed_")]


def _summarise(path: Path, folder: Path) -> ListedRun:
    run = Run(RunDirectory(path))
    name = path.name if path == folder else str(path.relative_to(folder))
    size = _bytes_in(path)
    try:
        config, _ = run.config, run.events  # both are read here, once
    # Files of these names may hold anything.
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return ListedRun(name, path, "damaged", size)
    return ListedRun(
        name=name,
        path=path,
        state=_state(run),
        bytes=size,
        task=config.task.name,
        depth=config.network.depth,
        seed=config.seed,
        success=run.newest("evaluation/success"),
        time_at_goal=run.newest("evaluation/time_at_goal"),
        progress=1.0 if run.directory.finished else _progress(run),
    )


def _bytes_in(folder: Path) -> int:
    """Size of all files below a folder. Files that vanish meanwhile, since the run trains, have
    none."""
    size = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                size += os.stat(os.path.join(path, name)).st_size
    return size


def _state(run: Run) -> State:
    if run.directory.finished:
        return "finished"
    stopped = any(event["event"] == "nonfinite" or event.get("stopped") for event in run.events)
    return "failed" if stopped else "unfinished"


def _progress(run: Run) -> float:
    collection = run.config.collection
    if collection.dataset is None:
        share = run.newest_count("env_steps") / collection.total_steps
    else:
        share = run.newest_count("updates") / (collection.total_steps * collection.update_to_data)
    return min(share, 1.0)
