"""Methods of a robot that do not return, or that end the thread that calls them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from benchmarks.cart import received

from kilolayer_robot.card import Card
from kilolayer_robot.gate import Gate
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.robot import Sensed
from kilolayer_robot.timing import Timing, WallClock

pytestmark = pytest.mark.slow

CARD = Card.plain(observation=1, goal=1, action=1)
SAFE, GO = np.array([-0.5], np.float32), np.array([0.5], np.float32)
TIMING = Timing(rate=50)
ROOT = Path(__file__).parents[2]


class Robot:
    """Records its actions; blocks in `safe_action` while `blocked` is set."""

    def __init__(self) -> None:
        self.actions: list[float] = []
        self.blocked, self.released = threading.Event(), threading.Event()
        self.exits = 0

    def observe(self) -> Sensed:
        return Sensed(np.zeros(1), np.zeros(1))

    def act(self, action: np.ndarray) -> None:
        if self.exits:
            self.exits -= 1
            raise SystemExit
        self.actions.append(float(action[0]))

    def safe_action(self) -> np.ndarray:
        if self.blocked.is_set():
            self.released.wait()
        return SAFE


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    yield robot
    robot.released.set()


def test_hanging_safe_action_does_not_stop_the_watchdog(robot) -> None:
    """The loop's thread asks for it and never returns; the watchdog sends the one of before."""
    loop = ControlLoop(robot, CARD, lambda *_: None, goal=[9.0], timing=TIMING)
    found = []
    thread = threading.Thread(target=lambda: found.append(loop.run(None)))
    thread.start()
    while not robot.actions:
        time.sleep(0.001)
    robot.blocked.set()
    time.sleep(0.1)
    before, deadline = loop.gate.watchdog_actions, time.monotonic() + 20
    while loop.gate.watchdog_actions < before + 5:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert loop.gate.close()
    assert set(robot.actions) == {SAFE[0]}
    robot.released.set()
    thread.join(10)
    assert found[0].ended_safely
    assert any("safe_action() failed" in note for note in found[0].notes)


def test_watchdog_survives_a_robot_that_exits(robot) -> None:
    gate = Gate(robot, CARD, WallClock(), TIMING)
    gate.begin_step()
    time.sleep(1.1 * TIMING.longest_hold)
    robot.exits = 1
    gate.watch()
    assert (robot.actions, gate.watchdog_actions) == ([], 0)
    time.sleep(1.1 * TIMING.period)
    gate.watch()
    assert (robot.actions, gate.watchdog_actions, gate.stalls) == ([SAFE[0]], 1, 1)


def test_last_action_is_tried_again_after_an_exit(robot) -> None:
    gate = Gate(robot, CARD, WallClock(), TIMING)
    gate.send(gate.begin_step(), GO)
    robot.exits = 2
    assert gate.close()
    assert robot.actions == [GO[0], SAFE[0]]


STUCK = """
import threading, time
from benchmarks.cart import Cart

class Stuck(Cart):
    def __init__(self, record, observe_seconds, thread):
        super().__init__(record)
        self.stalls, self.thread = observe_seconds, thread
        self.begun, self.stalled = time.monotonic(), False

    def observe(self):
        found = super().observe()
        if time.monotonic() - self.begun > 0.5 and not self.stalled:
            self.stalled = True
            time.sleep(self.stalls)
        return found

    def act(self, action):
        super().act(action)
        if threading.current_thread().name == self.thread:
            time.sleep(1e6)
"""


@pytest.mark.parametrize(
    ("observe_seconds", "thread"),
    [
        (1.0, "watchdog"),  # the watchdog hangs in `act`, then the loop at the gate
        (1e6, "watchdog"),  # the loop hangs in `observe`, the watchdog in `act`
        (1e6, "signals"),  # the loop hangs in `observe`, the last action in `act`
    ],
)
def test_process_ends_whatever_hangs(observe_seconds, thread, policy_folder, tmp_path) -> None:
    (tmp_path / "stuck_robot.py").write_text(STUCK)
    record = tmp_path / "record"
    command = [sys.executable, "-m", "kilolayer_robot.cli", "run", str(policy_folder)]
    command += ["--robot", "stuck_robot:Stuck", "--goal", "0.5", "--grace", "0.5"]
    command += ["--lock", f"stuck-{os.getpid()}", "--set", f"record={record}"]
    command += ["--set", f"observe_seconds={observe_seconds}", "--set", f"thread={thread}"]
    paths = [str(ROOT), *(str(Path(each).resolve()) for each in sys.path if each)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (record.exists() and len(received(record)) >= 5):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(2.5)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 3
    assert errors.startswith("error: the control loop did not end in time")
    assert received(record)[-1].safe
