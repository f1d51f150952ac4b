"""The command as a process: how it ends when it is asked to, and in a machine that lacks things."""

import os
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
from kilolayer.runtime.stopping import Terminated, held_back, signals_raise


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
    assert checkpoint.newest_whole(run.checkpoints) == (last, [])


@pytest.mark.parametrize(
    ("number", "kind"), [("SIGTERM", Terminated), ("SIGINT", KeyboardInterrupt)]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_loses_ends_the_run_at_its_next_round(number, kind, monkeypatch):
    """Python prints an exception that is raised while it collects garbage, and goes on."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Collected:
        def __del__(self):
            signal.raise_signal(signal.Signals[number])

    told: list[str] = []
    try:
        with signals_raise():
            Collected()
            with held_back(told.append) as stop:
                assert type(stop.asked) is kind
        with signals_raise(), held_back(told.append) as stop:
            assert stop.asked is None
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


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


@pytest.mark.parametrize("name", ["cuda", "no-such-device"])
def test_a_device_that_is_not_here_is_told(folder, name):
    code, _, errors = ended(start("train", *TINY, "--out=run", JAX_PLATFORMS=name))
    assert code == 2, errors
    assert "JAX found no device to compute on" in errors
    assert not (folder / "run").exists()


def test_a_terminal_of_another_encoding_loses_nothing(folder, tiny_run, tmp_path):
    import shutil

    run = Path(shutil.copytree(tiny_run.path, tmp_path / "Größe"))
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    code, out, errors = ended(start("report", str(run), **environment, PYTHONCOERCECLOCALE="0"))
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
