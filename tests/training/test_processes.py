"""Two processes on loopback train as one; one is killed, the other stops and nothing is lost."""

import os
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from kilolayer.config import run_config
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.training.build import build_trainer
from kilolayer.training.saving import restore_state

pytestmark = pytest.mark.slow

CONFIG = run_config(
    total_steps=80_000,
    num_envs=8,
    unroll_length=5,
    depth=2,
    layers_per_block=1,
    width=16,
    batch_size=16,
    update_to_data=10 / 40,
    episode_length=20,
    replay_steps_per_env=100,
    min_replay_steps_per_env=10,
    eval_envs=2,
    num_evaluations=999,
    tensorboard=False,
)


def test_two_processes_match_one_until_one_is_killed(tmp_path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "kilolayer", "train", "--config", str(tmp_path / "config.json")),
        *("--out", str(tmp_path / "run"), "--coordinator", f"localhost:{port}"),
        *("--devices", "2", "--num-processes", "2", "--process-id"),
    ]
    pair = [
        subprocess.Popen([*command, number], env=os.environ, stderr=subprocess.PIPE, text=True)
        for number in "01"
    ]
    run = RunDirectory(tmp_path / "run")
    while checkpoint.latest(run.checkpoints) is None or len(rounds_of(run)) < 5:
        assert pair[0].poll() is None
        time.sleep(0.1)
    pair[1].kill()
    killed = time.monotonic()
    pair[1].communicate()
    assert pair[0].stderr is not None
    with pair[0]:
        pair[0].wait(timeout=60)
        errors = os.read(pair[0].stderr.fileno(), 10**6).decode()
    assert time.monotonic() - killed < 30
    assert pair[0].returncode == 2
    assert "error: process 1 of 2 is lost" in errors

    trainer = build_trainer(CONFIG)
    collect = jax.jit(lambda state: trainer.collect(state)[0])
    train_round = jax.jit(trainer.round)
    state = collect(collect(jax.jit(trainer.init)()))
    events = rounds_of(run)
    assert events[-1]["updates"] >= 50
    for event in events:
        state, metrics = train_round(state)
        assert metrics.pop("collect/diverged") == 0  # which is logged only where it is not
        one = {name: float(value) for name, value in metrics.items()}
        assert one.keys() == event["metrics"].keys()
        for name, value in one.items():
            np.testing.assert_allclose(event["metrics"][name], value, rtol=1e-4, err_msg=name)
    last = checkpoint.latest(run.checkpoints)
    assert last is not None
    restored = restore_state(run, last, trainer)
    assert int(restored.unrolls) == last


def rounds_of(run: RunDirectory) -> list[dict]:
    return [event for event in run.read_events() if event["event"] == "train"]
