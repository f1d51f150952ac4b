"""Train, resume and report runs; one run as a function of its settings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.analysis.load import Run, load
from kilolayer.config import RunConfig
from kilolayer.errors import bad_field, nearest
from kilolayer.recommendations import recommended
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.files import unused
from kilolayer.runtime.processes import ONE_PROCESS, Processes
from kilolayer.runtime.progress import make_display
from kilolayer.training.loop import resume_run, start_run
from kilolayer.training.seeds import OnEvaluation


def train(
    config: RunConfig | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
    devices: int | None = None,
    processes: Processes = ONE_PROCESS,
    model_devices: int = 1,
    on_evaluation: OnEvaluation | None = None,
    report: bool = True,
) -> Run:
    """Train an agent and return its run.

    config: by default `recommended()`. directory: where the run is kept; by default a fresh one
    under `runs/`. progress: show a live display. devices: number of devices, by default all.
    processes: the processes that train together; they meet here and part at the end.
    model_devices: number of devices that share the width of the networks. on_evaluation: called
    with environment steps and scores (see `episode_metrics`) after every evaluation that follows an
    update; an exception that it raises ends the run, which `resume` can continue. report: write
    report.html at the end, which takes some seconds. Raises UserError for a config that cannot be
    run.
    """
    config = config or recommended()
    directory = _new_run(config, directory)
    with processes:
        display = make_display(progress)
        run = start_run(
            config, directory, display, devices, processes, 1, model_devices, on_evaluation
        )
    return _runs([run], report)[0]


def train_seeds(
    seeds: int,
    config: RunConfig | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
    report: bool = True,
) -> list[Run]:
    """Train several seeds, from the config's seed on, as one program on one device.

    Returns one run per seed. directory: of all runs and their shared files; `resume` takes it.
    report: write the report.html of every seed at the end.
    """
    config = config or recommended()
    directory = _new_run(config, directory)
    run = start_run(config, directory, make_display(progress), seeds=seeds)
    return _runs(run.members, report)


def resume(
    directory: str | Path,
    progress: bool = True,
    devices: int | None = None,
    processes: Processes = ONE_PROCESS,
    model_devices: int = 1,
    report: bool = True,
) -> list[Run]:
    """Continue a killed run from its newest checkpoint, and return the finished run.

    Returns a list, since several seeds may have trained together; usually it holds one run. The
    arguments are those of `train`.
    """
    with processes:
        display = make_display(progress)
        run = resume_run(Path(directory), display, devices, processes, model_devices)
    return _runs(run.members, report)


def objective(
    overrides: Mapping[str, Any] | None = None,
    on_evaluation: Callable[[int, float], None] | None = None,
    metric: str = "time_at_goal",
    directory: str | Path | None = None,
    progress: bool = False,
) -> float:
    """Train once with a task's recommended settings, changed by `overrides`, and return the score
    of the last evaluation.

    overrides: keyword arguments of `recommended`: `task`, `recipe` and any setting of a run.
    on_evaluation: called with environment steps and the score after every evaluation; an exception
    raised in it, such as `optuna.TrialPruned`, stops a poor run early. metric: a score of an
    evaluation, such as time_at_goal (control steps, higher is better), success or
    smallest_distance. directory: where the run is kept; by default a new one under `runs/`. Each
    run of a parallel search needs its own directory. Raises UserError for settings that cannot be
    run or an unknown metric.
    """
    scores: list[float] = []

    def record_score(steps: int, found: Mapping[str, float]) -> None:
        if metric not in found:
            raise bad_field("metric", metric, "no such score", nearest(metric, found))
        scores.append(found[metric])
        if on_evaluation is not None:
            on_evaluation(steps, scores[-1])

    config = recommended(**(overrides or {}))
    train(config, directory, progress, on_evaluation=record_score, report=False)
    return scores[-1]


def write_report(directory: str | Path, published: str | Path | None = None) -> Path:
    """Write the report of a run, of a study from its answer.json, or of a grounding or an action
    module, and return its path.

    published: for a study, a file of published curves; the page draws the study's curves over them.
    """
    from kilolayer.analysis.study import load_answer, load_study
    from kilolayer.report import run_report
    from kilolayer.report.language_report import is_language_directory, write_language_report
    from kilolayer.report.study_report import write_study_report

    path = Path(directory)
    if (path / "study.json").is_file():
        curves = None if published is None else Path(published)
        return write_study_report(load_study(path), load_answer(path), curves)
    if published is not None:
        raise bad_field("published", str(published), f"{path} is no study, which alone takes it")
    if is_language_directory(path):
        return write_language_report(path)
    return run_report.write_report(load(path))


def _new_run(config: RunConfig, directory: str | Path | None) -> Path:
    """`directory`, by default an unused one under `runs/` named after task, depth and seed."""
    name = f"{config.task.name}-depth{config.network.depth}-seed{config.seed}"
    return unused(Path("runs") / name) if directory is None else Path(directory)


def _runs(directories: Sequence[RunDirectory], report: bool) -> list[Run]:
    """The run of each directory, with its report if `report` is set and this process writes."""
    for directory in directories if report else ():
        if directory.writes:
            write_report(directory.path)
    return [Run(directory) for directory in directories]
