"""The command as a process: how it ends when it is asked to, and in a machine that lacks things."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.conftest import TINY
from kilolayer.cli import main
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.stopping import Terminated, defer_signals, signals_raise

pytestmark = pytest.mark.slow


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kilolayer", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=300)
    return process.returncode, out, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_end_saves_and_says_how_to_go_on(folder, number, code):
    process = start("train", *TINY, "--total-steps=4000000", "--out=run")
    metrics = folder / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and b'"train"' in metrics.read_bytes()):
        time.sleep(0.05)
    process.send_signal(number)
    found, _, errors = ended(process)
    assert found == code, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "stopped; `kilolayer train --resume run` goes on"
    run = RunDirectory.open(folder / "run")
    last = [event["round"] for event in run.read_events() if event["event"] == "train"][-1]
    assert checkpoint.newest_intact(run.checkpoints) == (last, [])


class Collected:
    """Sends a signal to this process when it is collected, where Python can raise nothing."""

    def __init__(self, number: signal.Signals):
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def collect_and_wait(number: signal.Signals) -> None:
    Collected(number)
    time.sleep(60)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_that_python_would_lose_comes_again(number, kind, capfd):
    before, start = signal.signal(signal.SIGINT, signal.default_int_handler), time.monotonic()
    try:
        with signals_raise():
            with pytest.raises(kind) as stop:
                collect_and_wait(number)
            assert type(stop.value) is kind
            told: list[str] = []
            with defer_signals(told.append) as held:
                Collected(number)
                time.sleep(0.2)
                assert type(held.interrupt) is kind
            assert len(told) == 1
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 30  # the wait was interrupted
    assert capfd.readouterr().err == ""


def test_a_second_process_is_refused(folder):
    first = start("train", *TINY, "--total-steps=4000000", "--out=run")
    while first.poll() is None and not (folder / "run" / "config.json").exists():
        time.sleep(0.05)
    code, _, errors = ended(start("train", "--resume", "run"))
    first.kill()
    ended(first)
    assert code == 2
    assert "another process trains in run" in errors


@pytest.mark.parametrize("name", ["osmesa", "no-such-library"])
def test_a_renderer_that_is_not_here_stops_no_command(folder, name):
    code, out, errors = ended(start("train", "--help", MUJOCO_GL=name))
    if errors:  # osmesa may be installed
        assert errors.startswith(f"warning: MUJOCO_GL={name} does not work here")
    assert "Traceback" not in errors
    assert code == 0
    assert "--depth" in out


COMMANDS = (["train", *TINY, "--out=run"], ["evaluate", "trained"])


@pytest.mark.parametrize("name", ["cuda", "no-such-device", "no-such-device,cpu"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_device_that_is_not_here_is_told(folder, tiny_run, command, name):
    shutil.copytree(tiny_run.path, "trained")
    code, _, errors = ended(start(*command, JAX_PLATFORMS=name))
    assert code == 2, errors
    assert "JAX found no device to compute on" in errors
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_ENABLE_X64", "maybe"),
        ("JAX_NUM_CPU_DEVICES", "two"),
        ("JAX_DEFAULT_MATMUL_PRECISION", "high-ish"),
        ("JAX_COMPILATION_CACHE_MAX_SIZE", "lots"),
    ],
)
def test_a_setting_that_jax_refuses_is_told(folder, name, value):
    code, _, errors = ended(start("train", *TINY, "--out=run", **{name: value}))
    assert code == 2, errors
    assert f"JAX cannot read the environment variable {name} = '{value}'" in errors
    assert not (folder / "run").exists()


def test_a_report_needs_no_window_and_no_unicode_terminal(folder, tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run.path, tmp_path / "Größe"))
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    environment |= {"PYTHONCOERCECLOCALE": "0", "MPLBACKEND": "no-such-backend"}
    code, out, errors = ended(start("report", str(run), **environment))
    assert code == 0, errors
    assert "report.html" in out
    assert "−" in (run / "report.html").read_text(encoding="utf-8")


def test_a_run_that_never_began_begins_when_it_is_resumed(folder, capsys):
    """Killed before its config was written, a run leaves a folder that holds nothing."""
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "manifest.json").write_text("{}")
    main(["train", *TINY, "--agent=gcsl", "--resume=run"])
    assert "run holds no run yet: one begins there" in capsys.readouterr().out
    assert RunDirectory.open(folder / "run").finished
