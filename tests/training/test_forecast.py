"""What a forecast says of time and room, with figures by hand, and what it refuses."""

import dataclasses
import json

import pytest

import kilolayer
from kilolayer.cli import main
from kilolayer.config import TrainConfig
from kilolayer.presets import PRESETS
from kilolayer.runtime.devices import ACCELERATORS, Accelerator
from kilolayer.types import UserError

CONFIG = TrainConfig(
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
def toy_device(monkeypatch):
    """`toy_device(memory)`: makes `toy` an accelerator with that much memory."""

    def make(memory: float) -> None:
        toy = Accelerator("Toy", memory, 1e6, None, None, 1e9, "invented")
        monkeypatch.setitem(ACCELERATORS, "toy", toy)

    return make


def test_hours_from_stated_rates(toy_device) -> None:
    toy_device(1e9)
    found = kilolayer.plan(CONFIG, "toy", progress=False)
    assert found.fits
    assert found.advice == ()
    assert found.peak_bytes == sum(found.memory.values()) < 1e9
    assert "program and libraries" not in found.memory
    # Three rounds of ten updates after two of collecting.
    assert (found.rounds, found.updates, found.env_steps) == (5, 30, 400)
    # At half of 1e6 operations a second no product is so small that its launch counts.
    optimiser = 7 * found.memory["parameters"] / 1e9
    update = found.flops["update"] / 0.5e6 + optimiser
    acting = found.flops["environment step"] / 0.5e6
    assert found.seconds_per_round is not None
    assert found.hours is not None
    assert found.seconds_per_round[0] == pytest.approx(10 * update + 80 * acting)
    evaluated = 2 * 4 * 200  # two evaluations of four episodes
    assert found.hours[0] * 3600 == pytest.approx(30 * update + (400 + evaluated) * acting)
    assert found.hours[1] == pytest.approx(5 * found.hours[0], rel=0.01)
    assert found.flops["run"] == (
        30 * found.flops["update"] + (400 + evaluated) * found.flops["environment step"]
    )


def test_what_does_not_fit_comes_with_advice(toy_device) -> None:
    toy_device(1e9)
    peak = kilolayer.plan(CONFIG, "toy", progress=False).peak_bytes
    toy_device(peak - 50_000)
    found = kilolayer.plan(CONFIG, "toy", progress=False)
    assert not found.fits
    assert found.peak_bytes == peak
    changes = {change.option: change for change in found.advice}
    # A step of eight worlds takes 8 x 11 x 4 bytes: 50 kB are 143 steps, which are 15 unrolls.
    smaller = changes["--replay-steps-per-env 350"]
    assert smaller.fits
    assert smaller.peak_bytes == pytest.approx(peak - 150 * 8 * 11 * 4, abs=10)
    fewer = changes["--num-envs 4"]
    assert fewer.peak_bytes < peak
    # It has no units for bfloat16, so that is not proposed.
    assert not any("bfloat16" in option for option in changes)


def test_on_this_machine_the_process_counts_and_hours_are_timed() -> None:
    found = kilolayer.plan(CONFIG, progress=False)
    assert found.memory["program and libraries"] > 1e8
    assert found.seconds_per_round is not None
    assert 0 < found.seconds_per_round[0] <= found.seconds_per_round[1]
    assert "timed here" in found.assumptions[1]


def test_devices_share_worlds_and_batch_but_not_parameters(toy_device) -> None:
    toy_device(1e9)
    one = kilolayer.plan(CONFIG, "toy", progress=False)
    two = kilolayer.plan(CONFIG, "toy", devices=2, progress=False)
    assert two.memory["parameters"] == one.memory["parameters"]
    assert two.memory["worlds"] == one.memory["worlds"] // 2
    assert two.memory["replay buffer"] == pytest.approx(one.memory["replay buffer"] / 2, abs=4)
    assert (two.updates, two.flops) == (one.updates, one.flops)


@pytest.mark.parametrize(
    ("device", "devices", "changes", "sentence"),
    [
        ("h100", 1, {}, r"device = 'h100' is not allowed: one of .*; .* is h100-80g\."),
        ("RTX 4090", 1, {}, r"device = 'RTX 4090' is not allowed: .* is rtx4090\."),
        ("v100-32g", 1, {"compute_dtype": "bfloat16"}, r"compute_dtype = .* is float32\."),
        ("h100-80g", 3, {}, r"num_envs = 8 is not allowed: 3 devices .* is 6 or 9\."),
        ("h100-80g", 0, {}, r"devices = 0 is not allowed: it must be at least 1"),
    ],
)
def test_what_is_refused(device, devices, changes, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        kilolayer.plan(dataclasses.replace(CONFIG, **changes), device, devices, progress=False)


def test_the_command_prints_tables_and_figures_for_machines(tmp_path, capsys) -> None:
    target = tmp_path / "plan.json"
    main(["plan", "--width", "16", "--no-calibration", "--json", str(target)])
    printed = capsys.readouterr().out
    figures = json.loads(target.read_text())
    assert f"{figures['parameters']['actor encoder']:,}" in printed
    assert f"{figures['peak_bytes'] / 1e9:.3f}" in printed
    assert figures["hours"] is None
    main(["plan", "--width", "16", "--no-calibration", "--json", "-"])
    again = json.loads(capsys.readouterr().out)
    assert again["flops"] == figures["flops"]


def test_the_command_takes_presets_and_refuses_an_unknown_device(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--preset", "laptop", "--device", "a100"])
    assert stop.value.code == 2
    assert "the nearest valid choice is a100-" in capsys.readouterr().err
    assert PRESETS["laptop"].task == "ant"
