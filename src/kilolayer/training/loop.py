"""Starts a run, or resumes it at its newest intact checkpoint."""

from contextlib import nullcontext
from pathlib import Path

import jax

from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.physics.build import refuse_unused
from kilolayer.run_directory import TASK_KEY, RunDirectory, new_run_lock, run_lock
from kilolayer.runtime import checkpoint
from kilolayer.runtime.files import shell_quoted
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.processes import ONE_PROCESS, Processes
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.schedule import check_data_source
from kilolayer.tasks.base import Task
from kilolayer.training.build import build_trainer
from kilolayer.training.offline import require_same_dataset
from kilolayer.training.rounds import TrainingLoop
from kilolayer.training.seeds import OnEvaluation, Seeds, open_members
from kilolayer.training.starting import MANIFEST_KEY, load_starting_point, reload_starting_point


def start_run(
    config: RunConfig,
    directory: Path,
    display: ProgressDisplay,
    devices: int | None = 1,
    processes: Processes = ONE_PROCESS,
    seeds: int = 1,
    model_devices: int = 1,
    on_evaluation: OnEvaluation | None = None,
) -> RunDirectory:
    """Train from the beginning in a new run directory; returns when the run has finished.

    See `kilolayer.train` for the arguments. seeds: number of seeds, from the config's seed on, that
    train as one program on one device; see `RunDirectory.members`.
    """
    check_data_source(config)
    chosen = Seeds.consecutive(config.seed, seeds)
    trainer = build_trainer(config, make_mesh(devices, model_devices), chosen)
    refuse_unused(config.physics, trainer.task.world)
    source = config.start_from
    start = None if source is None else load_starting_point(Path(source), trainer)
    manifest = describe_run(config.seed) | {"devices_used": trainer.mesh.size}
    if trainer.dataset is not None:
        manifest["dataset"] = trainer.dataset.fingerprint
    if trainer.task.fingerprint is not None:
        manifest[TASK_KEY] = trainer.task.fingerprint
    if start is not None:
        manifest[MANIFEST_KEY] = start.origin
    writes = jax.process_index() == 0
    with new_run_lock(directory) if writes else nullcontext():
        run = RunDirectory.create(directory, config, manifest, writes, chosen.values)
        processes.agree("config", config.flat())
        members = open_members(run, resume_at=None, steps_per_round=0)
        TrainingLoop(trainer, chosen, run, members, display, start, on_evaluation).execute(
            resume_at=None
        )
    return run


def resume_run(
    directory: Path,
    display: ProgressDisplay,
    devices: int | None = 1,
    processes: Processes = ONE_PROCESS,
    model_devices: int = 1,
) -> RunDirectory:
    """Continue a killed run at its newest checkpoint, on any number of devices.

    With the same number of devices, the result is bit-identical to that of an uninterrupted run.
    """
    writes = jax.process_index() == 0
    run = RunDirectory.open(directory, writes)
    if run.finished:
        raise UserError(
            f"the run in {directory} has finished: there is nothing to resume. "
            f"`kilolayer report {shell_quoted(run.members[0].path)}` shows it."
        )
    run.require_same_config()
    with run_lock(directory) if writes else nullcontext():
        if writes:
            run.restore_folders()
        seeds = Seeds(run.seeds)
        trainer = build_trainer(run.config, make_mesh(devices, model_devices), seeds)
        if trainer.dataset is not None:
            require_same_dataset(run, trainer.dataset)
        _require_same_task(run, trainer.task)
        resume_at = _intact_checkpoint(run, display)
        processes.agree("config", run.config.flat() | {"checkpoint": resume_at})
        # A run with a checkpoint no longer needs the run that it started from.
        start = None if resume_at else reload_starting_point(run, trainer)
        schedule = trainer.schedule
        # For a dataset, trackers count updates instead of steps.
        members = open_members(
            run, resume_at, schedule.steps_per_unroll or schedule.updates_per_unroll
        )
        TrainingLoop(trainer, seeds, run, members, display, start).execute(resume_at=resume_at)
    return run


def _require_same_task(run: RunDirectory, task: Task) -> None:
    """Raises UserError if the user's own robot is not the one that the run began with."""
    if not task.has_changed(run.members[0].recorded(TASK_KEY)):
        return
    path, file = shell_quoted(run.path), run.config.task.mjcf
    raise UserError(
        f"{file} has changed since the run in {run.path} began (the SHA-256 of its model differs): "
        "put the old file back, or train on with the new one in a new run: `kilolayer train "
        f"--config {shell_quoted(run.path / 'config.json')} --start-from {path}`."
    )


def _intact_checkpoint(run: RunDirectory, display: ProgressDisplay) -> int:
    """The round of the newest intact checkpoint, 0 if none was written yet.

    Newer damaged checkpoints are set aside. Raises UserError if all are damaged.
    """
    newest, problems = checkpoint.newest_intact(run.checkpoints)
    if problems and newest is None:
        raise UserError(
            f"{problems[0]} There is no other checkpoint to go on from: restore it from a copy, or "
            "start a new run."
        )
    for problem in problems:
        display.note(f"{problem} The run goes on from round {newest}.")
    if problems and newest is not None and run.writes:
        checkpoint.set_aside(run.checkpoints, newest)
    return newest or 0
