"""The README's Python and the worked examples run as printed."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from examples import own_robot, own_robot_loop

import kilolayer
from kilolayer.cli import main
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


def test_a_robot_of_ones_own_trains_from_its_file(tmp_path, monkeypatch, capsys) -> None:
    """With the commands that the example prints, and smaller counts."""
    commands = re.findall(r"^    kilolayer (.*)$", own_robot.__doc__ or "", re.MULTILINE)
    assert commands == [
        f"{verb} --mjcf arm.xml --goal-site gripper" for verb in ("inspect", "train")
    ]
    (tmp_path / "quick.json").write_text(QUICK.to_json())
    monkeypatch.chdir(tmp_path)
    own_robot.write_arm("arm.xml")
    main([*commands[1].split(), "--config", "quick.json"])
    printed = capsys.readouterr().out
    run = kilolayer.load("runs/arm-depth2-seed0")
    assert [c.name for c in run.task.goal.coordinates] == [f"gripper {axis}" for axis in "xyz"]
    assert "<title>arm, depth 2" in (run.path / "report.html").read_text()
    assert "kilolayer train --config runs/arm-depth2-seed0/config.json --depth 8" in printed
    # The arm is a metre and a half long.
    assert 0 < run.final("evaluation/smallest_distance") < 1.5
    Path("arm.xml").unlink()
    with pytest.raises(
        kilolayer.UserError, match=r"mjcf = 'arm.xml' .*run's config.json says which"
    ):
        kilolayer.load(run.path).task  # noqa: B018


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


def test_a_robot_of_ones_own_in_the_control_loop() -> None:
    cart = own_robot_loop.Cart(goal=0.3)
    summary = own_robot_loop.drive(cart, seconds=1.0)
    assert cart.place == pytest.approx(0.3, abs=own_robot_loop.RADIUS)
    # Every twentieth look shows nothing.
    assert summary.safe["bad observation"] == summary.steps // 20
    assert summary.plans["made"] >= 3
