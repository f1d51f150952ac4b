"""A folder with copies of the bad inputs to run commands in."""

import shutil
from pathlib import Path

import pytest

INPUTS = Path(__file__).parent / "inputs"
# A run of seconds.
TINY = [
    "--depth=4", "--width=16", "--num-envs=4", "--unroll-length=10",
    "--min-replay-steps-per-env=40", "--replay-steps-per-env=200", "--batch-size=16",
    "--total-steps=240", "--num-evaluations=1", "--eval-envs=2", "--no-profile", "--no-tensorboard",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current directory, with the inputs in it; log files go beside it."""
    here = tmp_path / "here"
    shutil.copytree(INPUTS, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return here
