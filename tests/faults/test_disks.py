"""Real file systems that fill up, or become read-only, while a run trains there."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faults.conftest import TINY
from faults.test_processes import ended, start
from kilolayer.errors import UserError
from kilolayer.runtime import checkpoint
from kilolayer.runtime.tensors import TensorDirectory

pytestmark = pytest.mark.slow

LONG = [*TINY, "--agent=gcsl", "--total-steps=1600", "--num-checkpoints=400"]


def mount(*arguments: str) -> None:
    """Mount. A file system becomes read-only at a moment at which no file on it is being written,
    so that may take several attempts."""
    for _ in range(500):
        done = subprocess.run(
            ["mount", *arguments],
            capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        if "busy" not in done.stderr:
            break
        time.sleep(0.01)
    assert "busy" not in done.stderr
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def disk(folder) -> Iterator[Path]:
    """A file system of 16 MB, unmounted at the end."""
    path = folder / "disk"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path))
    yield path
    while path.is_mount():
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def wait_for_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    while process.poll() is None and not checkpoint.steps(run / "checkpoints"):
        time.sleep(0.02)
    assert process.poll() is None


def fill(folder: Path) -> Path:
    """A file that takes all that is left of the file system."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                if file.write(bytes(4096)) < 4096:
                    break
            except OSError:
                break
    return folder / "filler"


@pytest.mark.parametrize("board", [[], ["--tensorboard"]], ids=["plain", "tensorboard"])
def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_it_goes_on_later(disk, board):
    process = start("train", *LONG, "--total-steps=400000", *board, "--out=disk/run")
    wait_for_checkpoint(process, disk / "run")
    filler = fill(disk)
    code, _, errors = ended(process)
    last = errors.strip().splitlines()[-1]
    assert code == 2, errors
    assert "Traceback" not in errors
    assert "No space left on device (0 MiB free)" in last
    assert "Free some space there" in last
    assert "kilolayer train --resume" in last
    assert "read-only" not in last.lower()
    filler.unlink()
    newest, problems = checkpoint.newest_intact(disk / "run" / "checkpoints")
    assert newest
    assert not problems
    other = start("train", "--resume", "disk/run")
    while other.poll() is None and b'"resume"' not in (disk / "run/metrics.jsonl").read_bytes():
        time.sleep(0.02)
    other.terminate()
    code, _, errors = ended(other)
    assert code == 143, errors


def test_a_disk_that_becomes_read_only_ends_the_run_with_a_sentence(disk):
    process = start("train", *LONG, "--total-steps=400000", "--out=disk/run")
    wait_for_checkpoint(process, disk / "run")
    # What is open for writing stays so: all that is opened from now on is read-only.
    mount("--bind", str(disk), str(disk))
    mount("-o", "remount,bind,ro", str(disk))
    code, _, errors = ended(process)
    last = errors.strip().splitlines()[-1]
    assert code == 2, errors
    assert "Traceback" not in errors
    assert "Read-only file system" in last
    assert "Mount that file system for writing, or choose another folder." in last
    assert "space" not in last
    # It is said of a resume too.
    code, _, errors = ended(start("train", "--resume", "disk/run"))
    assert code == 2, errors
    assert "Read-only file system" in errors.splitlines()[-1]
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    newest, problems = checkpoint.newest_intact(disk / "run" / "checkpoints")
    assert newest
    assert not problems


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run with TensorBoard that was asked to end after its first checkpoint. Read only."""
    here = tmp_path_factory.mktemp("stopped")
    places = {f"XDG_{kind}_HOME": str(here / kind) for kind in ("STATE", "CACHE")}
    long = [*LONG, "--total-steps=400000", "--tensorboard"]
    process = start("train", *long, f"--out={here / 'run'}", **places)
    wait_for_checkpoint(process, here / "run")
    process.terminate()
    assert ended(process)[0] == 143
    return here / "run"


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_run_goes_on_where_tensorboard_cannot(folder, stopped, kind):
    run = shutil.copytree(stopped, folder / "run")
    board = run / "tensorboard"
    mount("-t", "tmpfs", "-o", "size=8k", "tmpfs", str(board))
    try:
        if kind == "full":
            fill(board)
        else:
            mount("-o", "remount,ro", str(board))
        process = start("train", "--resume", "run")
        newest = checkpoint.latest(run / "checkpoints")
        while process.poll() is None and checkpoint.latest(run / "checkpoints") == newest:
            time.sleep(0.05)
        process.terminate()
        code, _, errors = ended(process)
        assert code == 143, errors
        assert "Traceback" not in errors
        assert "ensorBoard" in errors
    finally:
        subprocess.run(["umount", "--lazy", str(board)], check=True)


def test_a_run_begins_in_no_read_only_folder(disk):
    mount("-o", "remount,ro", str(disk))
    code, _, errors = ended(start("train", *LONG, "--out=disk/run"))
    assert code == 2, errors
    assert "Read-only file system. Mount that file system for writing" in errors.splitlines()[-1]


def test_a_report_cannot_be_written_to_a_full_disk(disk, tiny_run):
    shutil.copytree(tiny_run.path, disk / "run")
    (disk / "run" / "report.html").unlink(missing_ok=True)
    fill(disk)
    before = sorted(disk.rglob("*"))
    code, _, errors = ended(start("report", "disk/run"))
    assert code == 2, errors
    assert "No space left on device (0 MiB free)" in errors.splitlines()[-1]
    assert sorted(disk.rglob("*")) == before


@pytest.mark.parametrize("megabytes", [1, 32], ids=["the card does not fit", "nor do the arrays"])
def test_a_policy_that_does_not_fit_leaves_nothing(disk, megabytes):
    shelf = TensorDirectory("policy", 1)
    fill(disk).write_bytes(bytes(15 * 2**20 - 4096))
    with pytest.raises(UserError, match=r"No space left on device \(\d MiB free\)\. Free some"):
        shelf.write(disk / "policy", {"a": np.zeros(megabytes * 2**18, np.float32)}, {})
    assert [path.name for path in disk.iterdir()] == ["filler"]
