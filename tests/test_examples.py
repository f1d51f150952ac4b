"""The README's Python and the worked examples run as printed."""

import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from examples import behaviour_cloning, own_robot, own_robot_loop, run_onnx

import kilolayer
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.export.folder import export_robot
from kilolayer.deploy.export.write import export
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer_robot import Policy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

QUICK = run_config(
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
    profile=False,
)
SIZES = (
    "total_steps", "num_envs", "unroll_length", "width", "batch_size", "eval_envs",
    "num_evaluations", "replay_steps_per_env", "min_replay_steps_per_env", "profile",
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


def test_user_task_trains(tmp_path) -> None:
    config = QUICK.having(task="examples.puck:make_puck")
    run = kilolayer.train(config, tmp_path / "run", progress=False, report=False)
    assert run.task.name == "puck"
    assert run.final("evaluation/smallest_distance") < 1.5


def test_user_agent_trains(tmp_path) -> None:
    """With the command that the example prints, and smaller counts."""
    (command,) = re.findall(
        r"^    kilolayer (train --agent .*) --total-steps 200000$",
        behaviour_cloning.__doc__ or "",
        re.MULTILINE,
    )
    assert f"kilolayer {command}" in (ROOT / "docs" / "architecture.md").read_text()
    sizes = {name: QUICK.flat()[name] for name in SIZES if name != "profile"}
    options = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    main([*command.split(), *options, "--depth", "4", "--out", str(tmp_path / "run")])
    run = kilolayer.load(tmp_path / "run")
    assert run.config.agent.average_decay == 0.999
    first, last = run.curve("actor/loss")[1][[0, -1]]
    assert last < first
    assert run.policy([1, 1, 0, 0], [3, 1]).shape == (2,)


def test_user_robot_trains_from_its_file(tmp_path, monkeypatch, capsys) -> None:
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


def test_an_exported_policy_runs_without_jax(tiny_run, tmp_path) -> None:
    """In a process where JAX and this package cannot be imported."""
    export(tiny_run.path, tmp_path / "export", ["onnx"])
    source = """
import runpy, sys
sys.modules |= {"jax": None, "kilolayer": None}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    arguments = [ROOT / "examples" / "run_onnx.py", tmp_path / "export" / "policy.onnx"]
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, check=True
    )
    assert re.search(r"task +point_u_maze", done.stdout)
    assert re.search(r"latency +\d+\.\d+ ms", done.stdout)
    assert re.search(r"point +2.00 from its goal, then at best \d\.\d", done.stdout)


def test_the_field_of_the_example_is_the_point_world() -> None:
    push = np.array([0.5, -0.25])
    found = run_onnx.distances_in_the_field(lambda *_: push, goal=np.array([3.0, 1.0]), steps=5)
    open_field = KinematicPhysics(PointWorld(walls=((False,) * 9,) * 9))
    state, expected = open_field.init(jnp.ones((1, 2)), jnp.zeros((1, 2))), []
    for _ in range(5):
        state = open_field.step(state, jnp.asarray(push, jnp.float32)[None])
        expected.append(float(np.linalg.norm(state.qpos[0] - np.array([3.0, 1.0]))))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_missing_module_is_named() -> None:
    with pytest.raises(
        kilolayer.UserError, match=r"task = 'nowhere:make': the module 'nowhere' cannot be imported"
    ):
        kilolayer.train(QUICK.having(task="nowhere:make"))


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    """With smaller counts, so that it takes seconds."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    smaller = {name: value for name, value in QUICK.flat().items() if name in SIZES}
    source = blocks[0].replace("seed=1", ", ".join(f"{k}={v!r}" for k, v in smaller.items()))
    assert "eval_envs=4" in source
    names: dict = {}
    exec(compile(source, "README.md", "exec"), names)
    assert isinstance(names["action"], np.ndarray)
    assert names["action"].shape == (2,)


def test_user_robot_runs_in_the_control_loop(tmp_path) -> None:
    """An exported policy of the zoo drives it."""
    export_robot("zoo:point_u_maze", tmp_path / "policy")
    policy, cart = Policy.open(tmp_path / "policy"), own_robot_loop.Cart()
    goal = policy.card.parse_goal("1,3")
    summary = own_robot_loop.drive(cart, policy, goal, seconds=4.5)
    assert np.linalg.norm(cart.place - goal) < policy.card.radius
    assert summary.ended_safely
    # Every twentieth look shows nothing.
    assert summary.safe["bad observation"] == summary.steps // 20
    assert summary.plans["made"] >= 3
