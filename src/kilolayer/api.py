"""The Python face: train a config, get a run."""

from pathlib import Path

from kilolayer.analysis.load import Run, load
from kilolayer.config import TrainConfig
from kilolayer.runtime.progress import LiveDisplay, ProgressDisplay, Silent
from kilolayer.training.loop import resume_run, start_run


def train(
    config: TrainConfig | None = None, directory: str | Path | None = None, progress: bool = True
) -> Run:
    """Train an agent and return its run.

    config: by default the quickstart. directory: where the run is kept; by default a fresh one
    under `runs/`. progress: show a live display. Raises UserError for a config that cannot be run.
    """
    config = config or TrainConfig()
    directory = Path(directory) if directory is not None else fresh_directory(config)
    return load(start_run(config, directory, _display(progress)).path)


def resume(directory: str | Path, progress: bool = True) -> Run:
    """Continue a killed run where its newest checkpoint left it, and return it finished."""
    return load(resume_run(Path(directory), _display(progress)).path)


def fresh_directory(config: TrainConfig) -> Path:
    """A directory under `runs/` that does not exist yet, named after task, depth and seed."""
    base = Path("runs") / f"{config.task}-depth{config.depth}-seed{config.seed}"
    candidate, count = base, 1
    while candidate.exists():
        count += 1
        candidate = base.with_name(f"{base.name}-{count}")
    return candidate


def _display(progress: bool) -> ProgressDisplay:
    return LiveDisplay() if progress else Silent()
