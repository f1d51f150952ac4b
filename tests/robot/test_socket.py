"""A robot behind a network that delays and loses messages, in a separate process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dm_control", reason="the arm is dm_control's, which OGBench brings")

from examples.socket_robot import SocketRobot
from examples.socket_simulation import Channel

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.timing import Timing

ROOT = Path(__file__).parents[2]
UPPER, LOWER = 0.12, 0.12  # m, from joint to joint and to the finger
TIMING = Timing(rate=20, observation_limit=5)


@pytest.fixture
def simulation() -> Iterator[tuple[subprocess.Popen, int]]:
    command = [sys.executable, "-m", "examples.socket_simulation", "--port", "0"]
    command += ["--latency", "0.02", "--loss", "0.1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, int(process.stdout.readline().split()[1])
    process.kill()
    process.communicate()


def transposed_jacobian(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Pull the finger to the goal by torques, against the joints' speeds."""
    (shoulder, wrist), speeds = observation[:2], observation[2:4]
    first = UPPER * np.array([np.cos(shoulder), np.sin(shoulder)])
    second = LOWER * np.array([np.cos(shoulder + wrist), np.sin(shoulder + wrist)])
    turned = np.array([[-second[1], second[0]], [-second[1], second[0]]])
    turned[0] += [-first[1], first[0]]
    pull = goal[:2] - (first + second)
    return np.clip(40 * turned @ pull - 0.15 * speeds, -1, 1)


def test_socket_robot_reaches_its_goal(simulation) -> None:
    robot = SocketRobot(port=simulation[1])
    card = Card.plain(observation=4, goal=3, action=2, radius=0.03)
    goal = [0.05, 0.15, 0.01]
    loop = ControlLoop(robot, card, transposed_jacobian, goal=goal, timing=TIMING)
    summary = loop.run(5.0)
    assert np.linalg.norm(robot.observe().achieved_goal - goal) < 0.03
    assert robot.lost > 0
    assert summary.ended_safely
    robot.close()


def test_silent_robot_gets_safe_actions(simulation) -> None:
    process, port = simulation
    robot = SocketRobot(port=port)
    card = Card.plain(observation=4, goal=3, action=2)

    def controller(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        if process.poll() is None:
            process.kill()
            process.wait()
        return np.ones(2)

    summary = ControlLoop(robot, card, controller, goal=[0, 0, 0], timing=TIMING).run(1.5)
    assert summary.safe["late observation"] > 10
    robot.close()
    with pytest.raises(UserError, match=f"no robot answers at 127.0.0.1:{port}"):
        SocketRobot(port=port, patience=0.1)


def test_used_port_is_reported(simulation) -> None:
    command = [sys.executable, "-m", "examples.socket_simulation", "--port", str(simulation[1])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith(f"error: port {simulation[1]}: Address already in use")
    assert len(done.stderr.splitlines()) == 1


def test_channel_loses_and_delays_messages() -> None:
    channel = Channel(0.02, 0.25, np.random.default_rng(0))
    for number in range(1000):
        channel.put(number, now=0.001 * number)
    assert channel.lost == pytest.approx(250, abs=50)
    assert channel.due(0.0199) == []
    arrived = channel.due(10.0)
    assert len(arrived) == 1000 - channel.lost
    assert arrived != sorted(arrived)  # some overtook others
