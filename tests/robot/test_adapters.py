"""Robots of other libraries in the control loop."""

import gymnasium
import numpy as np
import pytest

from kilolayer_robot.adapters.gymnasium import GymnasiumRobot
from kilolayer_robot.adapters.lerobot import LeRobotRobot
from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.loop import ControlLoop
from kilolayer_robot.timing import Timing


class Point(gymnasium.Env):
    """A point on a line, moved by up to 2 m in a step; 50 steps in an episode."""

    def __init__(self, goals: bool = True):
        self.goals, self.place, self.steps = goals, 0.0, 0
        self.action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))
        line = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        parts = {"observation": line, "achieved_goal": line, "desired_goal": line}
        self.observation_space = (
            gymnasium.spaces.Dict(parts)
            if goals
            else gymnasium.spaces.Dict({"place": line, "time": line})
        )

    def reset(self, *, seed=None, options=None):
        self.place, self.steps = 0.0, 0
        return self._see(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place += float(action[0])
        self.steps += 1
        return self._see(), 0.0, False, self.steps == 50, {}

    def _see(self):
        place = np.array([self.place], np.float32)
        if self.goals:
            goal = np.array([7.0], np.float32)
            return {"observation": place, "achieved_goal": place, "desired_goal": goal}
        return {"place": place, "time": np.array([self.steps], np.float32)}


def toward(observation: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
    """Half of the way in a step; actions of 1 are 2 m."""
    return np.clip((subgoal - observation[:1]) / 4, -1, 1)


def test_an_environment_with_goals() -> None:
    robot = GymnasiumRobot(Point())
    card = Card.plain(observation=1, goal=1, action=1)
    summary = ControlLoop(robot, card, toward, timing=Timing(rate=100)).run(0.8)
    assert robot.episodes == 1
    assert robot.observe().errand == 1
    assert robot.env.place == pytest.approx(7.0, abs=0.1)
    assert summary.steps > sum(summary.safe.values())


def test_environment_without_goals_uses_the_loops_goal() -> None:
    env = Point(goals=False)
    with pytest.raises(UserError, match="with achieved="):
        GymnasiumRobot(env)
    robot = GymnasiumRobot(env, achieved=[0])
    card = Card.plain(observation=2, goal=1, action=1)
    ControlLoop(robot, card, toward, goal=[3.0], timing=Timing(rate=100)).run(0.3)
    assert env.place == pytest.approx(3.0, abs=0.1)


def test_registered_environment_opens_by_name() -> None:
    robot = GymnasiumRobot("Pendulum-v1", achieved=[0, 1])
    np.testing.assert_array_equal(robot.safe_action(), [0.0])
    before = robot.observe()
    robot.act(np.array([1.0]))
    assert (robot.observe().observation != before.observation).any()
    robot.close()


@pytest.mark.parametrize(
    ("env", "words"),
    [("Nowhere-v0", "env = 'Nowhere-v0' is not allowed"), ("CartPole-v1", "a bounded Box")],
)
def test_unsupported_environment_is_refused(env, words) -> None:
    with pytest.raises(UserError, match=words):
        GymnasiumRobot(env, achieved=[0])


class MockArm:
    """LeRobot's interface as of its version 0.4 (lerobot.robots.robot.Robot): two joints in degrees
    that go where they are sent, and a gripper that is not measured."""

    def __init__(self) -> None:
        joints = {"shoulder.pos": float, "elbow.pos": float}
        self.observation_features = {**joints, "camera": (4, 4, 3)}
        self.action_features = {**joints, "gripper.pos": float}
        self.is_connected = False
        self.state = {"shoulder.pos": 10.0, "elbow.pos": -20.0, "gripper.pos": 0.0}

    def connect(self, calibrate: bool = True) -> None:
        assert not self.is_connected
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def get_observation(self):
        assert self.is_connected
        measured = {name: self.state[name] for name in ("shoulder.pos", "elbow.pos")}
        return measured | {"camera": np.zeros((4, 4, 3), np.uint8)}

    def send_action(self, action):
        assert self.is_connected
        assert set(action) == set(self.action_features)
        self.state |= action
        return action


JOINTS = ("shoulder.pos", "elbow.pos")
RANGES = {"shoulder.pos": (-90.0, 90.0), "elbow.pos": (-45.0, 45.0), "gripper.pos": (0.0, 100.0)}


def test_a_robot_of_lerobot() -> None:
    arm = MockArm()
    robot = LeRobotRobot(arm, JOINTS, JOINTS, RANGES)
    assert arm.is_connected
    np.testing.assert_array_equal(robot.observe().observation, [10, -20])
    robot.act(np.array([1.0, 0.0, -1.0]))
    assert arm.state == {"shoulder.pos": 90.0, "elbow.pos": 0.0, "gripper.pos": 0.0}
    robot.close()
    assert not arm.is_connected


def test_lerobot_safe_action_is_to_stay() -> None:
    arm = MockArm()
    robot = LeRobotRobot(arm, JOINTS, lambda seen: np.array([seen["elbow.pos"]]), RANGES)
    robot.act(robot.safe_action())
    assert arm.state == pytest.approx(
        {"shoulder.pos": 10.0, "elbow.pos": -20.0, "gripper.pos": 50.0}
    )


def test_lerobot_stays_at_the_last_finite_position() -> None:
    arm = MockArm()
    robot = LeRobotRobot(arm, JOINTS, JOINTS, RANGES)
    arm.state |= {"shoulder.pos": float("nan"), "elbow.pos": 30.0}
    robot.observe()
    robot.act(robot.safe_action())
    assert arm.state == pytest.approx(
        {"shoulder.pos": 10.0, "elbow.pos": 30.0, "gripper.pos": 50.0}
    )


class SaggingArm(MockArm):
    """Gravity holds the elbow a degree below its target."""

    def send_action(self, action):
        found = super().send_action(action)
        self.state["elbow.pos"] -= 1.0
        return found


def test_lerobot_arm_does_not_sink_while_it_stays() -> None:
    arm = SaggingArm()
    robot = LeRobotRobot(arm, JOINTS, JOINTS, RANGES)
    card = Card.plain(observation=2, goal=2, action=3)

    def failing(*_: np.ndarray) -> np.ndarray:
        raise ValueError

    summary = ControlLoop(robot, card, failing, goal=[0.0, 0.0], timing=Timing(rate=200)).run(0.2)
    assert summary.actions > 10
    assert arm.state["elbow.pos"] == pytest.approx(-21.0, abs=1e-4)
    robot.act(np.array([0.0, 0.5, 0.0]))
    robot.observe()
    robot.act(robot.safe_action())
    assert arm.state["elbow.pos"] == pytest.approx(20.5, abs=1e-4)


def test_lerobot_arm_is_disconnected_if_it_cannot_be_observed() -> None:
    arm = MockArm()
    del arm.state["elbow.pos"]
    with pytest.raises(KeyError):
        LeRobotRobot(arm, JOINTS, JOINTS, RANGES)
    assert not arm.is_connected


def test_lerobot_arm_reaches_its_goal_in_the_loop() -> None:
    arm = MockArm()
    robot = LeRobotRobot(arm, JOINTS, JOINTS, RANGES)
    card = Card.plain(observation=2, goal=2, action=3, radius=1.0)

    def controller(observation: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
        aim = observation + 0.2 * (subgoal - observation)
        return np.array([aim[0] / 90, aim[1] / 45, 0.0])

    loop = ControlLoop(robot, card, controller, goal=[40.0, 30.0], timing=Timing(rate=100))
    loop.run(0.5)
    assert [arm.state[name] for name in JOINTS] == pytest.approx([40.0, 30.0], abs=1.0)


def test_missing_lerobot_features_are_named() -> None:
    with pytest.raises(UserError, match=r"no observation 'wrist\.pos': it has shoulder\.pos"):
        LeRobotRobot(MockArm(), ["wrist.pos"], JOINTS, RANGES)
    with pytest.raises(UserError, match=r"no action 'wrist\.pos'"):
        LeRobotRobot(MockArm(), JOINTS, JOINTS, {"wrist.pos": (0.0, 1.0)})
    with pytest.raises(UserError, match="not two different numbers each"):
        LeRobotRobot(MockArm(), JOINTS, JOINTS, {"elbow.pos": (1.0, 1.0)})
    with pytest.raises(UserError, match="it lacks connect"):
        LeRobotRobot(object(), JOINTS, JOINTS, RANGES)
