"""A robot of somebody else, behind a network that delays and loses messages.

The robot is the two-link arm of DeepMind's dm_control (`pip install dm_control`), as its MJCF file
has it. Train it, make it small, export it:

    REACHER=$(python -m examples.socket_simulation --where)
    kilolayer train --mjcf $REACHER --goal-body finger --out runs/reacher
    kilolayer distil runs/reacher --depth 4 --width 32 --out runs/reacher-small
    kilolayer export runs/reacher-small --to policy/

Then start its simulation in one terminal, and drive it from another that has no JAX and no MuJoCo:

    python -m examples.socket_simulation $REACHER --part finger --latency 0.01 --loss 0.05
    kilolayer-robot run policy/ --robot examples.socket_robot:SocketRobot --goal 0.1,0.1,0.01 \\
        --seconds 10

Messages are JSON datagrams (UDP). The robot sends its state at its own pace, `{"time", "number",
"observation", "place"}`; it is sent `{"time", "action"}`.
"""

import contextlib
import json
import socket
import time

import numpy as np

from kilolayer_robot import Sensed, UserError

LONGEST_MESSAGE = 65_536


class SocketRobot:
    """Acts on the newest state that arrived. Numbers of lost and of reordered messages are kept.

    host, port: of the robot. actuators: how many it has. patience: seconds to wait for its first
    message. The clock of the messages is the monotonic one of this machine, which a simulation on
    the same machine shares; over a real network, take the time of arrival instead.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8770,
        actuators: int = 2,
        patience: float = 5.0,
    ):
        self._actuators = actuators
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, port))
        self._socket.setblocking(False)
        self._newest: dict | None = None
        self.lost = self.reordered = 0
        deadline = time.monotonic() + patience
        while self._newest is None:
            if time.monotonic() > deadline:
                self._socket.close()
                raise UserError(f"no robot answers at {host}:{port}: start its simulation first.")
            self.act(self.safe_action())
            time.sleep(0.01)
            self._receive()

    def observe(self) -> Sensed:
        self._receive()
        assert self._newest is not None
        newest = self._newest
        observation, place = (np.array(newest[name]) for name in ("observation", "place"))
        return Sensed(observation, place, measured_at=newest["time"])

    def act(self, action: np.ndarray) -> None:
        message = {"time": time.monotonic(), "action": np.asarray(action, float).tolist()}
        # A message that cannot leave is as good as lost: the observations will be late.
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self._socket.send(json.dumps(message).encode())

    def safe_action(self) -> np.ndarray:
        """No torque: the joints are damped."""
        return np.zeros(self._actuators)

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                message = json.loads(self._socket.recv(LONGEST_MESSAGE))
            except (BlockingIOError, ConnectionRefusedError):
                return
            number = message["number"]
            before = -1 if self._newest is None else self._newest["number"]
            if number <= before:
                self.reordered += 1
                continue
            if self._newest is not None:
                self.lost += number - before - 1
            self._newest = message
