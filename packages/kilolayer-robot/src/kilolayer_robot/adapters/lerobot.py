"""Adapts a robot of LeRobot to the control loop.

The adapter takes any object with LeRobot's interface (`connect`, `get_observation`, `send_action`,
`disconnect`), so it does not import LeRobot:

    from lerobot.robots.so101_follower import SO101Follower, SO101FollowerConfig

    def arm() -> LeRobotRobot:
        robot = SO101Follower(SO101FollowerConfig(port="/dev/ttyACM0", id="arm"))
        return LeRobotRobot(robot, observation=NAMES, achieved=GRIPPER, action=RANGES)

    kilolayer-robot run policy/ --robot my_robot:arm --goal ...
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kilolayer_robot.errors import UserError
from kilolayer_robot.robot import Sensed

METHODS = ("connect", "get_observation", "send_action", "disconnect")


class LeRobotRobot:
    """Connects on construction and disconnects on `close`.

    observation: names of the features that make up the observation, in the card's order. achieved:
    names of the features of the achieved goal, or a function of the whole observation, such as
    forward kinematics. action: for the name of each action feature, in the card's order, the values
    that -1 and 1 stand for. Raises UserError for a name that the robot lacks.

    The safe action is to stay: each action feature keeps the position that was measured last before
    the first safe action, or the middle of its range if it is not measured. Until another action is
    sent, the safe action stays the same: an arm that hangs a little below its target would sink
    step by step if the target followed the measurements.
    """

    def __init__(
        self,
        robot: Any,
        observation: Sequence[str],
        achieved: Sequence[str] | Callable[[Mapping[str, Any]], np.ndarray],
        action: Mapping[str, tuple[float, float]],
    ):
        missing = [name for name in METHODS if not callable(getattr(robot, name, None))]
        if missing:
            raise UserError(f"{robot} is not a LeRobot robot: it lacks {', '.join(missing)}.")
        self._robot = robot
        self._names, self._achieved, self._actions = tuple(observation), achieved, dict(action)
        measured = () if callable(achieved) else achieved
        _require(robot.observation_features, (*self._names, *measured), "observation")
        _require(robot.action_features, tuple(self._actions), "action")
        ranges = np.array(list(self._actions.values()), np.float64)
        self._low, self._high = ranges[:, 0], ranges[:, 1]
        if not (np.isfinite(ranges).all() and (self._low != self._high).all()):
            raise UserError(f"the ranges {self._actions} are not two different numbers each.")
        self._stay = (self._low + self._high) / 2
        self._safe, self._holds = np.zeros(0, np.float32), False
        if not robot.is_connected:
            robot.connect()
        try:
            self._note_positions(robot.get_observation())
        except BaseException:
            # Nobody else could: the caller gets no robot to close.
            robot.disconnect()
            raise

    def observe(self) -> Sensed:
        measured_at = time.monotonic()
        found = self._robot.get_observation()
        self._note_positions(found)
        achieved = self._achieved
        goal = achieved(found) if callable(achieved) else _numbers(found, achieved)
        return Sensed(_numbers(found, self._names), goal, measured_at=measured_at)

    def act(self, action: np.ndarray) -> None:
        self._holds = np.array_equal(action, self._safe)
        share = (np.asarray(action, np.float64) + 1) / 2
        values = self._low + share * (self._high - self._low)
        self._robot.send_action(
            {name: float(value) for name, value in zip(self._actions, values, strict=True)}
        )

    def safe_action(self) -> np.ndarray:
        if not self._holds:
            share = (self._stay - self._low) / (self._high - self._low)
            # In float32, as the loop sends it.
            self._safe = np.clip(2 * share - 1, -1, 1).astype(np.float32)
        return self._safe

    def _note_positions(self, found: Mapping[str, Any]) -> None:
        """Keep the finite positions; a new array, because another thread may read the present."""
        measured = [float(found.get(name, np.nan)) for name in self._actions]
        self._stay = np.where(np.isfinite(measured), measured, self._stay)

    def close(self) -> None:
        self._robot.disconnect()


def _numbers(found: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    return np.array([found[name] for name in names], np.float32)


def _require(features: Mapping[str, Any], names: Sequence[str], kind: str) -> None:
    for name in names:
        if name not in features:
            known = ", ".join(features)
            raise UserError(f"the robot has no {kind} {name!r}: it has {known}.")
