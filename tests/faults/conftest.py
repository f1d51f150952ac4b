"""A folder with copies of the bad inputs to run commands in."""

import shutil
from pathlib import Path

import pytest

from kilolayer.cli import main

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


def refused(capsys, *arguments: str) -> str:
    """What a command says on the error stream that cannot be done; it leaves nothing."""
    before = sorted(path for path in Path.cwd().rglob("*") if "__pycache__" not in path.parts)
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    told = capsys.readouterr().err
    assert stop.value.code == 2, told
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, told
    after = sorted(path for path in Path.cwd().rglob("*") if "__pycache__" not in path.parts)
    assert after == before
    return lines[0]
