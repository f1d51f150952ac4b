"""The README's Python and the worked examples run as printed."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import kilolayer
from kilolayer.config import TrainConfig

ROOT = Path(__file__).parent.parent

QUICK = TrainConfig(
    total_steps=2_000,
    num_envs=8,
    unroll_length=20,
    layers_per_block=1,
    depth=2,
    width=16,
    batch_size=32,
    eval_envs=4,
    num_evaluations=1,
    replay_steps_per_env=200,
    min_replay_steps_per_env=40,
    tensorboard=False,
)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_task_of_ones_own_trains(tmp_path) -> None:
    config = dataclasses.replace(QUICK, task="examples.puck:make_puck")
    run = kilolayer.train(config, tmp_path / "run", progress=False)
    assert run.task.name == "puck"
    assert run.final("evaluation/smallest_distance") < 1.5


def test_an_agent_of_ones_own_trains(tmp_path) -> None:
    config = dataclasses.replace(QUICK, agent="examples.behaviour_cloning:build")
    run = kilolayer.train(config, tmp_path / "run", progress=False)
    first, last = run.curve("actor/loss")[1][[0, -1]]
    assert last < first
    assert run.policy([1, 1, 0, 0], [3, 1]).shape == (2,)


def test_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(kilolayer.UserError, match=r"task = 'nowhere:make' cannot be found"):
        kilolayer.train(dataclasses.replace(QUICK, task="nowhere:make"))


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    """With smaller counts, so that it takes seconds."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    source = blocks[0].replace("total_steps=600_000", "total_steps=2_000, eval_envs=4")
    assert "eval_envs=4" in source
    names: dict = {}
    exec(compile(source, "README.md", "exec"), names)
    assert isinstance(names["action"], np.ndarray)
    assert names["action"].shape == (2,)
