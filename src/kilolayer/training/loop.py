"""The life of a run on the host: it is begun, or resumed at its newest whole checkpoint."""

from contextlib import nullcontext
from pathlib import Path

import jax

from kilolayer.config import RunConfig
from kilolayer.plan import check_data_source
from kilolayer.run_directory import RunDirectory, begun, claimed
from kilolayer.runtime import checkpoint
from kilolayer.runtime.files import shell
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.mesh import make_mesh
from kilolayer.runtime.processes import ONE_PROCESS, Processes
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.training.build import build_trainer
from kilolayer.training.members import OnEvaluation, open_members
from kilolayer.training.offline import require_same_dataset
from kilolayer.training.rounds import Rounds
from kilolayer.training.seeds import Seeds
from kilolayer.training.starting import MANIFEST_KEY, same_starting_point, starting_point
from kilolayer.types import UserError


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

    devices: how many to use, None for all there are. processes: those that train together. seeds:
    how many train as one program on one device, from the config's on; see `RunDirectory.members`.
    model_devices: how many share the width of the networks. on_evaluation: called after every
    evaluation but the first, before any update; what it raises ends the run.
    """
    check_data_source(config)
    chosen = Seeds.starting_at(config.seed, seeds)
    trainer = build_trainer(config, make_mesh(devices, model_devices), chosen)
    source = config.start_from
    start = None if source is None else starting_point(Path(source), trainer)
    manifest = describe_run(config.seed) | {"devices_used": trainer.mesh.size}
    if trainer.dataset is not None:
        manifest["dataset"] = trainer.dataset.fingerprint
    if start is not None:
        manifest[MANIFEST_KEY] = start.origin
    writes = jax.process_index() == 0
    with begun(directory) if writes else nullcontext():
        run = RunDirectory.create(directory, config, manifest, writes, chosen.values)
        processes.agree("config", config.flat())
        members = open_members(run, resume_at=None, steps_per_round=0)
        Rounds(trainer, chosen, run, members, display, start, on_evaluation).run_all(resume_at=None)
    return run


def resume_run(
    directory: Path,
    display: ProgressDisplay,
    devices: int | None = 1,
    processes: Processes = ONE_PROCESS,
    model_devices: int = 1,
) -> RunDirectory:
    """Continue a killed run at its newest checkpoint, on any number of devices.

    On as many as before the result is the same as that of an unbroken run, bit for bit.
    """
    writes = jax.process_index() == 0
    run = RunDirectory.open(directory, writes)
    if run.finished:
        raise UserError(
            f"the run in {directory} has finished: there is nothing to resume. "
            f"`kilolayer report {shell(run.members[0].path)}` shows it."
        )
    run.require_same_config()
    with claimed(directory) if writes else nullcontext():
        _go_on(run, display, devices, processes, model_devices)
    return run


def _go_on(
    run: RunDirectory,
    display: ProgressDisplay,
    devices: int | None,
    processes: Processes,
    model_devices: int,
) -> None:
    seeds = Seeds(run.seeds)
    trainer = build_trainer(run.config, make_mesh(devices, model_devices), seeds)
    if trainer.dataset is not None:
        require_same_dataset(run, trainer.dataset)
    resume_at = _whole_checkpoint(run, display)
    processes.agree("config", run.config.flat() | {"checkpoint": resume_at})
    # With a checkpoint of its own the run no longer needs the other.
    start = None if resume_at else same_starting_point(run, trainer)
    plan = trainer.plan
    # Trackers count updates where no steps are taken.
    members = open_members(run, resume_at, plan.steps_per_unroll or plan.updates_per_unroll)
    Rounds(trainer, seeds, run, members, display, start).run_all(resume_at=resume_at)


def _whole_checkpoint(run: RunDirectory, display: ProgressDisplay) -> int:
    """The round of the newest checkpoint that is whole, 0 if none was written yet.

    Newer ones that are damaged are set aside. Raises UserError if all are damaged.
    """
    newest, problems = checkpoint.newest_whole(run.checkpoints)
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
