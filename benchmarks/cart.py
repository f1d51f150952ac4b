"""A simulated cart for the control loop, with faults to inject, and a policy that drives it.

The cart is a robot of `kilolayer_robot` and needs numpy alone. It writes every action that it gets
to a file, 24 bytes each, so that what was sent last is known however its process ended.
"""

import struct
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kilolayer_robot.robot import Sensed

RECORD = struct.Struct("<dd?7x")
SAFE = -0.125  # exact in binary, and no action of the policy near its goal


class Received(NamedTuple):
    """An action: seconds of the monotonic clock, its value, and whether it is the safe one."""

    at: float
    action: float
    safe: bool


def received(path: Path) -> list[Received]:
    """The actions that a cart wrote, in order."""
    content = path.read_bytes()
    whole = len(content) - len(content) % RECORD.size
    return [Received(*fields) for fields in RECORD.iter_unpack(content[:whole])]


class Cart:
    """Moves at up to 1 m/s along a track. Observation: its place in m, twice. Goal: a place in m.

    record: the file for actions. Faults, each with its probability at an observation: nan, wrong
    shape, late (measured a second ago), raising, and stalls of `stall_seconds`. hang: the number of
    the observation that never returns. seed: of the faults.
    """

    def __init__(
        self,
        record: str,
        nan: float = 0.0,
        wrong_shape: float = 0.0,
        late: float = 0.0,
        raising: float = 0.0,
        stall: float = 0.0,
        stall_seconds: float = 0.3,
        hang: int | None = None,
        seed: int = 0,
    ):
        self.place, self._speed, self._since = 0.0, 0.0, time.monotonic()
        self._file = open(record, "ab", buffering=0)  # noqa: SIM115 it stays open until the end
        self._names = ("nan", "wrong_shape", "late", "raising", "stall")
        self._edges = np.cumsum([nan, wrong_shape, late, raising, stall])
        self._stall_seconds, self._hang = stall_seconds, hang
        self._random = np.random.default_rng(seed)
        self._looks = 0
        self.injected = dict.fromkeys(self._names, 0)

    def observe(self) -> Sensed:
        self._move()
        self._looks += 1
        if self._looks == self._hang:
            while True:
                time.sleep(60)
        place = np.full(2, self.place, np.float32)
        chosen = int(np.searchsorted(self._edges, self._random.random(), side="right"))
        if chosen == len(self._names):
            return Sensed(place, place[:1])
        fault = self._names[chosen]
        self.injected[fault] += 1
        if fault == "nan":
            return Sensed(np.full(2, np.nan), place[:1])
        if fault == "wrong_shape":
            return Sensed(np.zeros(3), place[:1])
        if fault == "late":
            return Sensed(place, place[:1], measured_at=time.monotonic() - 1.0)
        if fault == "raising":
            raise ConnectionError("the camera is unplugged")
        time.sleep(self._stall_seconds)
        return Sensed(place, place[:1])

    def act(self, action: np.ndarray) -> None:
        self._move()
        self._speed = float(action[0])
        safe = self._speed == SAFE
        self._file.write(RECORD.pack(time.monotonic(), self._speed, safe))

    def safe_action(self) -> np.ndarray:
        return np.array([SAFE])

    def close(self) -> None:
        self._file.close()

    def _move(self) -> None:
        now = time.monotonic()
        self.place += self._speed * (now - self._since)
        self._since = now


def write_policy(folder: Path, control_step: float = 0.01, gain: float = 4.0) -> Path:
    """Write a policy folder for the cart: action = tanh(gain (goal - place)). Needs onnx."""
    import hashlib

    from onnx import TensorProto, helper, numpy_helper

    from kilolayer_robot.card import CARD, Card, Coordinate
    from kilolayer_robot.policy import MODEL

    kernel = np.array([[-gain / 2], [-gain / 2], [gain]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["observation", "goal"], ["x"], axis=-1),
            helper.make_node("MatMul", ["x", "kernel"], ["mean"]),
            helper.make_node("Tanh", ["mean"], ["action"]),
        ],
        "policy",
        [
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("goal", TensorProto.FLOAT, ["batch", 1]),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(content)
    card = Card(
        name="cart",
        observation=(Coordinate("place", "m"), Coordinate("place again", "m")),
        goal=(Coordinate("place", "m"),),
        action=(Coordinate("speed", "m/s", -1.0, 1.0),),
        radius=0.05,
        control_step=control_step,
        safe_action=(SAFE,),
        files={MODEL: hashlib.sha256(content).hexdigest()},
    )
    (folder / CARD).write_text(card.to_json())
    return folder
