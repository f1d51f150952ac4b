"""The check that refuses a JAX that returns wrong sums."""

import re

import jax
import pytest

from kilolayer.analysis.load import load
from kilolayer.api import train
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.policy import open_policy
from kilolayer.errors import UserError
from kilolayer.runtime import devices
from kilolayer.runtime.devices import refuse_wrong_jax

SENTENCE = "jaxlib 0.10.2 returns wrong sums on a CPU, .*`pip install 'jax!=0.10.2'`"


@pytest.fixture
def wrong_jax(monkeypatch) -> None:
    monkeypatch.setattr(devices, "version", lambda package: "0.10.2")


def test_the_installed_jax_is_accepted():
    refuse_wrong_jax()


@pytest.mark.parametrize("version", ["0.10.1", "0.10.20", "0.11.0", "0.12.0.1"])
def test_other_versions_are_accepted(version, monkeypatch):
    monkeypatch.setattr(devices, "version", lambda package: version)
    refuse_wrong_jax()


def test_accelerators_are_accepted(wrong_jax, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    refuse_wrong_jax()


def test_training_and_loading_are_refused(wrong_jax, tmp_path):
    for refused in (
        lambda: train(run_config(), tmp_path / "run", progress=False),
        lambda: load(tmp_path),
        lambda: open_policy(tmp_path),
    ):
        with pytest.raises(UserError, match=SENTENCE):
            refused()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train --out run", "plan", "inspect arm_push_easy"])
def test_command_line_refuses_wrong_jax_with_code_2(
    command, wrong_jax, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert re.search(SENTENCE, error)
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
