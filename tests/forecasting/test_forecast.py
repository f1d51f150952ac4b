"""Forecasts of time and memory: hand computations and refusals."""

import json

import jax
import numpy as np
import pytest

import kilolayer
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.forecasting.forecast import MemoryOption
from kilolayer.networks.arithmetic import tree_bytes
from kilolayer.recommendations import recommended
from kilolayer.replay.dataset import write_dataset
from kilolayer.runtime.devices import ACCELERATORS, Accelerator
from kilolayer.training.step import Trainer

CONFIG = run_config(
    total_steps=400,
    num_envs=8,
    unroll_length=10,
    width=8,
    batch_size=16,
    update_to_data=1 / 8,
    replay_steps_per_env=500,
    min_replay_steps_per_env=20,
    num_evaluations=1,
    eval_envs=4,
)


@pytest.fixture
def account(monkeypatch):
    """Replaces the memory analysis of the compiled program, which takes seconds: a round needs
    10 kB per row of the batch."""

    def known_memory(trainer: Trainer) -> tuple[dict[str, int], float]:
        state = jax.eval_shape(trainer.init)
        parameters = tree_bytes(state.agent.parameters)
        return {
            "parameters": parameters,
            "optimiser": 2 * parameters,
            "gradients": parameters,
            "activations and temporaries": 10_000 * trainer.config.agent.batch_size,
            "replay buffer": tree_bytes(state.buffer),
            "environments": tree_bytes(state.envs),
        }, 1.5

    monkeypatch.setattr("kilolayer.forecasting.forecast.device_memory", known_memory)


@pytest.fixture
def toy_device(monkeypatch, account):
    """`toy_device(memory)`: registers the accelerator `toy` with this memory."""

    def make(memory: float) -> None:
        toy = Accelerator("Toy", memory, 1e6, None, None, 1e9, "invented")
        monkeypatch.setitem(ACCELERATORS, "toy", toy)

    return make


def test_hours_from_nominal_rates(toy_device) -> None:
    toy_device(1e9)
    found = kilolayer.forecast(CONFIG, "toy", progress=False)
    assert found.fits
    assert found.advice == ()
    assert found.peak_bytes == sum(found.memory.values()) < 1e9
    assert "program and libraries" not in found.memory
    # Three rounds of ten updates after two of collecting.
    assert (found.rounds, found.updates, found.env_steps) == (5, 30, 400)
    # At 0.5e6 operations a second every product takes longer than its launch.
    optimiser = 7 * found.memory["parameters"] / 1e9
    update = found.flops["update"] / 0.5e6 + optimiser
    env_step = found.flops["environment step"] / 0.5e6
    assert found.seconds_per_round is not None
    assert found.hours is not None
    assert found.seconds_per_round[0] == pytest.approx(10 * update + 80 * env_step)
    evaluated = (2 + 1) * 4 * 200  # two evaluations of four episodes, the last of two goal splits
    kept = ("parameters", "optimiser", "replay buffer", "environments")
    saving = sum(found.memory[kind] for kind in kept) / 5e8  # one checkpoint
    seconds = 30 * update + (400 + evaluated) * env_step + saving
    assert found.hours[0] * 3600 == pytest.approx(seconds)
    assert found.hours[1] == pytest.approx(5 * found.hours[0], rel=0.01)
    assert found.flops["run"] == (
        30 * found.flops["update"] + (400 + evaluated) * found.flops["environment step"]
    )


def test_forecast_that_does_not_fit_has_advice(toy_device) -> None:
    toy_device(1e9)
    peak = kilolayer.forecast(CONFIG, "toy", progress=False).peak_bytes
    toy_device(peak - 50_000)
    found = kilolayer.forecast(CONFIG, "toy", progress=False)
    assert not found.fits
    assert found.peak_bytes == peak
    changes = {change.option: change for change in found.advice}
    # A step of eight environments takes 8 x 11 x 4 bytes: 50 kB are 143 steps, which are 15
    # unrolls.
    smaller = changes["--replay-steps-per-env 350"]
    assert smaller.fits
    assert smaller.peak_bytes == pytest.approx(peak - 150 * 8 * 11 * 4, abs=10)
    assert changes["--batch-size 8"] == MemoryOption("--batch-size 8", peak - 80_000, True)
    assert changes["--num-envs 4"].peak_bytes < peak
    # The device has no bfloat16, so this option is not proposed.
    assert not any("bfloat16" in option for option in changes)


def test_a_dataset_that_does_not_fit_has_advice(toy_device, tmp_path) -> None:
    steps = 40
    arrays = {
        "observations": np.zeros((steps, 4), np.float32),
        "actions": np.zeros((steps, 2), np.float32),
        "terminals": np.arange(1, steps + 1) % 20 == 0,
        "qpos": np.zeros((steps, 2), np.float32),
        "qvel": np.zeros((steps, 2), np.float32),
    }
    write_dataset(tmp_path / "recorded.npz", arrays)
    toy_device(100_000)
    config = CONFIG.having(dataset=str(tmp_path / "recorded.npz"))
    found = kilolayer.forecast(config, "toy", progress=False)
    assert not found.fits
    assert "--batch-size 8" in {change.option for change in found.advice}
    # The dataset takes what it takes.
    assert not any("replay" in change.option for change in found.advice)


def test_run_that_does_not_fit_is_not_timed(account, monkeypatch) -> None:
    monkeypatch.setattr("kilolayer.forecasting.forecast.local_memory", lambda: 1_000)
    monkeypatch.setattr("kilolayer.forecasting.forecast.resident_bytes", lambda: 5_000_000)
    config = CONFIG.having(replay_steps_per_env=5_000)
    found = kilolayer.forecast(config, progress=False)
    assert (found.fits, found.hours) == (False, None)
    buffer = 5_000 * 8 * 11 * 4 + 4
    assert found.memory["replay buffer"] == buffer
    assert found.memory["program and libraries"] == 5_000_000
    # A checkpoint needs a copy of the state and read buffers.
    state = ("parameters", "optimiser", "replay buffer", "environments")
    saving = sum(found.memory[kind] for kind in state) + 64_000_000
    assert found.memory["saving a checkpoint"] == saving
    # No buffer fits, so the smallest is proposed: the two unrolls before the first update.
    assert found.advice[0].option == "--replay-steps-per-env 20"
    assert not found.advice[0].fits


def test_devices_share_environments_and_batch_but_not_parameters(toy_device) -> None:
    toy_device(1e9)
    one = kilolayer.forecast(CONFIG, "toy", progress=False)
    two = kilolayer.forecast(CONFIG, "toy", devices=2, progress=False)
    assert two.memory["parameters"] == one.memory["parameters"]
    assert two.memory["environments"] == one.memory["environments"] // 2
    assert two.memory["replay buffer"] == pytest.approx(one.memory["replay buffer"] / 2, abs=4)
    assert (two.updates, two.flops) == (one.updates, one.flops)


@pytest.mark.parametrize(
    ("device", "devices", "changes", "sentence"),
    [
        ("h100", 1, {}, r"device = 'h100' is not allowed: one of .*; .* is h100-80g\."),
        ("RTX 4090", 1, {}, r"device = 'RTX 4090' is not allowed: .* is rtx4090\."),
        ("v100-32g", 1, {"compute_dtype": "bfloat16"}, r"compute_dtype = .* is float32\."),
        ("h100-80g", 3, {}, r"num_envs = 8 is not allowed: .* \(3; see --devices\); .* is 6 or 9"),
        ("h100-80g", 0, {}, r"devices = 0 is not allowed: it must be at least 1"),
    ],
)
def test_forecast_refuses_invalid_input(device, devices, changes, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        kilolayer.forecast(CONFIG.having(**changes), device, devices, progress=False)


@pytest.mark.slow
def test_plan_command_on_this_machine(tmp_path, capsys) -> None:
    """Compile, calibrate, print."""
    config, target = tmp_path / "config.json", tmp_path / "plan.json"
    config.write_text(CONFIG.to_json())
    main(["plan", "--config", str(config), "--width", "16", "--json", str(target)])
    printed = capsys.readouterr().out
    found = json.loads(target.read_text())
    actor = (4 + 2) * 16 + 4 * 16 * 16 + 16 * 4 + 5 * 3 * 16 + 4
    assert found["parameters"]["actor encoder"] == actor
    assert f"{actor:,}" in printed
    assert f"{found['peak_bytes'] / 1e9:.3f}" in printed
    assert "this machine (cpu): fits" in printed
    assert found["memory"]["program and libraries"] > 1e8
    low, high = found["seconds_per_round"]
    assert 0 < low <= high
    assert "10 updates at depth 4 and 80 environment steps" in printed


def test_on_policy_run_is_timed(account) -> None:
    """It collects nothing before its updates, and its batch needs more than the shortest unroll."""
    few = CONFIG.having(agent="ppo", num_envs=4_096, batch_size=6_000, update_to_data=1e-4)
    found = kilolayer.forecast(few, progress=False)
    assert found.seconds_per_round is not None
    low, high = found.seconds_per_round
    assert 0 < low <= high


def test_plan_command_prints_json(toy_device, capsys) -> None:
    toy_device(1e9)
    main(["plan", "--task", "ant", "--device", "toy", "--json", "-"])
    found = json.loads(capsys.readouterr().out)
    assert found["env_steps"] >= recommended("ant").collection.total_steps
    assert found["compile_seconds"] == 1.5


def test_plan_command_refuses_unknown_device(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--task", "ant", "--device", "a100"])
    assert stop.value.code == 2
    assert "the nearest valid choice is a100-" in capsys.readouterr().err
