"""However a process with the loop is stopped, the last action is the safe one, at once."""

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.cart import received

from kilolayer_robot.stopping import Signals

PERIOD = 0.05
# Seconds that a busy machine may add to a period. How many actions follow does not depend on it.
SLACK = 0.25
ROOT = Path(__file__).parents[2]


def assert_ended_safely(record: Path, at: float) -> None:
    """By the safe action, and after no more than the one that was on its way at that time."""
    actions = received(record)
    assert actions[-1].safe
    assert sum(not each.safe for each in actions if each.at > at) <= 1
    assert actions[-1].at - at < PERIOD + SLACK


def stop(process: subprocess.Popen, number: int) -> float:
    process.send_signal(number)
    return time.monotonic()


@pytest.mark.parametrize(
    "name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGXCPU"]
)
def test_signal_ends_the_loop_safely(name, start_loop) -> None:
    process, record = start_loop()
    time.sleep(np.random.default_rng().uniform(0, 2 * PERIOD))
    at = stop(process, getattr(signal, name))
    printed, errors = process.communicate(timeout=30)
    actions = received(record)
    assert process.returncode == 0, errors
    assert_ended_safely(record, at)
    # It did more than stand still before.
    assert any(not each.safe for each in actions)
    assert f"stopped by {name}" in printed
    assert "last action safe" in printed


def test_signal_while_the_robot_hangs_sends_the_safe_action(start_loop) -> None:
    """`observe` never returns: the watchdog answers at once and ends the process."""
    process, record = start_loop("--grace", "0.5", hang=20, acted=25)
    # The loop has acted 19 times at most, so the watchdog keeps the robot safe.
    assert [each.safe for each in received(record)[-5:]] == [True] * 5
    at = stop(process, signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "the control loop did not end in time" in errors
    assert_ended_safely(record, at)


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] in range(2048), reason="needs 2,048 open files"
)
def test_signals_arrive_in_a_process_with_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    try:
        with Signals() as signals:
            assert not signals.wait(0.0)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.wait(10.0)
            assert signals.received == "SIGUSR1"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_signals_end_the_loop_like_one(start_loop) -> None:
    process, record = start_loop()
    at = stop(process, signal.SIGTERM)
    stop(process, signal.SIGTERM)
    process.communicate(timeout=30)
    assert_ended_safely(record, at)


def test_slow_loop_ends_at_once(start_loop) -> None:
    """A period is longer than the grace, and the loop's thread sleeps through most of it."""
    process, record = start_loop("--rate", "0.05", "--grace", "3", acted=1)
    at = stop(process, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert received(record)[-1].safe
    assert time.monotonic() - at < 3


def test_closed_terminal_ends_the_loop_safely(policy_folder, tmp_path) -> None:
    """The kernel sends SIGHUP and writing to the terminal fails."""
    record = tmp_path / "record"
    command = ["run", str(policy_folder), "--robot", "benchmarks.cart:Cart", "--goal", "0.5"]
    command += ["--set", f"record={record}", "--lock", f"terminal-{os.getpid()}"]
    terminal, own = pty.openpty()
    # The loop's process makes the terminal its own; a fork of this one would copy JAX's threads.
    take = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, '-m', 'kilolayer_robot.cli', *sys.argv[1:]])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", take, *command],
        **{"stdin": own, "stdout": own, "stderr": own, "cwd": ROOT, "start_new_session": True},
    )
    os.close(own)
    deadline = time.monotonic() + 60
    while not (record.exists() and len(received(record)) >= 8):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.close(terminal)
    at = time.monotonic()
    child.wait(timeout=30)
    assert_ended_safely(record, at)


def test_time_limit_ends_the_loop_safely(start_loop) -> None:
    process, record = start_loop("--seconds", "1")
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert received(record)[-1].safe
    assert "stopped by time after 20 control steps" in printed


def test_faults_are_counted_and_never_sent(start_loop) -> None:
    """A fifth of the observations is bad, in four ways; the cart still comes to its goal."""
    process, record = start_loop(
        "--seconds", "3", nan=0.05, wrong_shape=0.05, late=0.05, raising=0.05
    )
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    actions = received(record)
    assert np.isfinite([each.action for each in actions]).all()
    assert max(abs(each.action) for each in actions) <= 1
    for line in ("bad observation", "late observation", "first error: ConnectionError"):
        assert line in printed
    assert sum(each.safe for each in actions) > 3
