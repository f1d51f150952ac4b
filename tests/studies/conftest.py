"""Synthetic study directories: runs with given scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kilolayer.analysis.study import FORMAT, Study, load_study
from kilolayer.config import RunConfig, run_config

TINY = run_config(
    total_steps=1_000,
    num_envs=8,
    unroll_length=10,
    layers_per_block=1,
    depth=1,
    width=8,
    representation_dim=4,
    batch_size=8,
    update_to_data=1 / 40,
    min_replay_steps_per_env=20,
    replay_steps_per_env=50,
    num_evaluations=5,
    eval_envs=2,
    tensorboard=False,
)


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """Trains in seconds: two layers of eight units."""
    return TINY


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Study]:
    """`write_study(question, runs)`: a finished study of `(factors, scores, config changes)`.

    scores: time at goal at evaluations 100 environment steps and 10 updates apart, from 0 on.
    """

    def write(
        question: str, runs: list[tuple[dict[str, Any], list[float], dict[str, Any]]]
    ) -> Study:
        cells = {}
        for number, (factors, scores, changes) in enumerate(runs):
            name = f"run{number}"
            config = TINY.having(**changes)
            folder = tmp_path / "study" / "runs" / name
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(config.to_json())
            (folder / "metrics.jsonl").write_text(_events(scores))
            (folder / "DONE").touch()
            cells[name] = {"factors": factors, "config": config.to_dict()}
        study = {"format": FORMAT, "question": question, "asks": "?", "size": "quick"}
        (tmp_path / "study" / "study.json").write_text(json.dumps({**study, "runs": cells}))
        return load_study(tmp_path / "study")

    return write


def _events(scores: list[float]) -> str:
    lines = []
    for index, score in enumerate(scores):
        counts = {"round": index, "env_steps": 100 * index, "updates": 10 * index}
        metrics = {
            "evaluation/time_at_goal": score,
            "evaluation/success": score / 100,
            "evaluation_training_goals/time_at_goal": score,
            "evaluation_training_goals/success": 2 * score / 100,
        }
        lines.append({"event": "evaluation", **counts, "metrics": metrics})
        if index:
            spent = {"prefill": 1.0, "train": 2.0 * index}
            lines.append({"event": "checkpoint", **counts, "metrics": {}, "seconds": spent})
            train = {"critic/contrastive_loss": 1.0, "critic/accuracy": 0.5}
            lines.append({"event": "train", **counts, "metrics": train})
    return "".join(json.dumps(line) + "\n" for line in lines)
