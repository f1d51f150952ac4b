"""Synthetic run and study directories for tests of analysis and reports."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.analysis.study import FORMAT, Study, load_study
from kilolayer.config import RunConfig, run_config
from kilolayer.run_directory import RunDirectory

STEPS = (1000, 2000, 3000)  # environment steps of the evaluations
TINY = run_config(width=16, num_envs=8, unroll_length=10, batch_size=16, tensorboard=False)


def write_run(
    path: Path,
    config: RunConfig = TINY,
    time_at_goal: Sequence[float] = (0.0, 10.0, 20.0),
    finished: bool = True,
) -> Path:
    """A run directory with one evaluation for each of `time_at_goal`, in control steps."""
    manifest = {"command": "kilolayer train", "seed": config.seed, "versions": {"jax": "0.10"}}
    run = RunDirectory.create(path, config, manifest)
    for index, (steps, score) in enumerate(zip(STEPS, time_at_goal, strict=False), start=1):
        counts = {"round": index, "env_steps": steps, "updates": steps // 40}
        metrics = {
            "evaluation/success": score / 100,
            "evaluation/time_at_goal": score,
            "evaluation/smallest_distance": 5 - score / 100,
            "evaluation/behaviour/speed": score / 10,
        }
        run.append_event({"event": "evaluation", **counts, "metrics": metrics})
        run.append_event({"event": "checkpoint", **counts, "seconds": {"train": 60.0 * index}})
    if finished:
        run.mark_finished()
    return path


def write_study(
    path: Path, cells: Mapping[str, Mapping[str, Any]], asks: str = "Does depth help?"
) -> Study:
    """A study directory with these cells, `{name: factors}`, without runs."""
    (path / "failures").mkdir(parents=True)
    found = {
        "format": FORMAT,
        "version": "0.1.0",
        "question": "depth",
        "asks": asks,
        "size": "quick",
        "runs": {name: {"config": {}, "factors": factors} for name, factors in cells.items()},
    }
    (path / "study.json").write_text(json.dumps(found))
    return load_study(path)
