"""A robot on ROS 2 in the control loop. Not run here: this needs `rclpy`, which pip does not bring.

    source /opt/ros/jazzy/setup.bash
    kilolayer-robot run policy/ --robot examples.ros2_node:Ros2Robot --goal 0.4,0.1,0.3

It listens to joint states and a gripper's place, and publishes joint velocities. ROS delivers
messages in a thread of its own; `observe` takes the newest ones with the time they arrived, and the
loop refuses what is too old. The driver should stop by itself when commands stay away, which covers
a loss of power of this machine.
"""

import threading
import time

import numpy as np
import rclpy  # pyright: ignore[reportMissingImports]
from geometry_msgs.msg import PointStamped  # pyright: ignore[reportMissingImports]
from sensor_msgs.msg import JointState  # pyright: ignore[reportMissingImports]
from std_msgs.msg import Float64MultiArray  # pyright: ignore[reportMissingImports]

from kilolayer_robot import Sensed, UserError


class Ros2Robot:
    """joints: their names in the card's order. fastest: rad/s that an action of 1 stands for."""

    def __init__(
        self,
        joints: tuple[str, ...] = ("shoulder", "elbow", "wrist"),
        fastest: float = 0.5,
        patience: float = 5.0,
    ):
        # ROS would take SIGINT and SIGTERM for itself; the loop must have them.
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self._joints, self._fastest = tuple(joints), fastest
        self._state: tuple[np.ndarray, float] | None = None
        self._place: np.ndarray | None = None
        self._node = rclpy.create_node("kilolayer_robot")
        self._node.create_subscription(JointState, "joint_states", self._on_joints, 1)
        self._node.create_subscription(PointStamped, "gripper", self._on_place, 1)
        self._commands = self._node.create_publisher(Float64MultiArray, "velocity_commands", 1)
        self._thread = threading.Thread(target=rclpy.spin, args=(self._node,), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + patience
        while self._state is None or self._place is None:
            if time.monotonic() > deadline:
                raise UserError("no messages on joint_states and gripper: is the driver running?")
            time.sleep(0.01)

    def observe(self) -> Sensed:
        assert self._state is not None
        assert self._place is not None
        joints, arrived = self._state
        return Sensed(joints, self._place, measured_at=arrived)

    def act(self, action: np.ndarray) -> None:
        speeds = self._fastest * np.asarray(action, np.float64)
        self._commands.publish(Float64MultiArray(data=speeds.tolist()))

    def safe_action(self) -> np.ndarray:
        """No velocity."""
        return np.zeros(len(self._joints))

    def close(self) -> None:
        rclpy.shutdown()
        self._thread.join(1.0)

    def _on_joints(self, message: JointState) -> None:
        place = dict(zip(message.name, message.position, strict=True))
        speed = dict(zip(message.name, message.velocity, strict=True))
        numbers = [each[name] for each in (place, speed) for name in self._joints]
        self._state = np.array(numbers, np.float32), time.monotonic()

    def _on_place(self, message: PointStamped) -> None:
        point = message.point
        self._place = np.array([point.x, point.y, point.z], np.float32)
