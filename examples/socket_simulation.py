"""A MuJoCo model in real time behind a UDP socket, with latency and loss: see `socket_robot`.

    python -m examples.socket_simulation robot.xml --part finger --latency 0.01 --loss 0.05

It sends positions, velocities and sensors, and where the part is, at the control rate, to whoever
sent the last action. Like a careful robot it stops by itself when no action has come for 0.2 s.
"""

# MuJoCo ships no type stubs for its compiled module.
# pyright: reportAttributeAccessIssue=false
import argparse
import heapq
import importlib.util
import json
import socket
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

COMMAND_TIMEOUT = 0.2  # s without an action, after which the actuators get zeros


class Channel:
    """One direction of a network: holds every message back, and loses some.

    latency: s, to which up to half as much is added at random, so that messages overtake others.
    """

    def __init__(self, latency: float, loss: float, random: np.random.Generator):
        self._latency, self._loss, self._random = latency, loss, random
        self._held: list[tuple[float, int, Any]] = []
        self.entered = self.lost = 0

    def put(self, message: Any, now: float) -> None:
        self.entered += 1
        if self._random.random() < self._loss:
            self.lost += 1
            return
        due = now + self._latency * self._random.uniform(1.0, 1.5)
        heapq.heappush(self._held, (due, self.entered, message))

    def due(self, now: float) -> list[Any]:
        """The messages that arrive by now."""
        found = []
        while self._held and self._held[0][0] <= now:
            found.append(heapq.heappop(self._held)[2])
        return found


class Simulation:
    """part: a body or site. control_step: s between two states that are sent."""

    def __init__(self, path: Path, part: str, control_step: float):
        self.model = mujoco.MjModel.from_xml_path(str(path))
        self.data = mujoco.MjData(self.model)
        body = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, part)
        site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, part)
        if max(body, site) < 0:
            raise SystemExit(f"error: {path} has no body or site {part!r}.")
        # A view into the data.
        self._place = self.data.xpos[body] if body >= 0 else self.data.site_xpos[site]
        low, high = self.model.actuator_ctrlrange.T
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self.substeps = max(1, round(control_step / self.model.opt.timestep))
        self.control_step = self.substeps * self.model.opt.timestep
        mujoco.mj_forward(self.model, self.data)

    def apply(self, action: Any) -> None:
        """action `[actuators]` in [-1, 1]."""
        share = np.clip(np.asarray(action, float), -1, 1)
        if share.shape == self._half.shape and np.isfinite(share).all():
            self.data.ctrl[:] = self._middle + self._half * share

    def step(self) -> None:
        mujoco.mj_step(self.model, self.data, self.substeps)
        mujoco.mj_forward(self.model, self.data)

    def state(self) -> dict[str, Any]:
        data = self.data
        observation = np.concatenate([data.qpos, data.qvel, data.sensordata])
        return {"observation": observation.tolist(), "place": self._place.tolist()}


def serve(
    simulation: Simulation, port: int, latency: float, loss: float, seconds: float | None
) -> None:
    random = np.random.default_rng(0)
    arriving, leaving = Channel(latency, loss, random), Channel(latency, loss, random)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind(("127.0.0.1", port))
    except OSError as error:
        raise SystemExit(
            f"error: port {port}: {error.strerror}; give another with --port."
        ) from None
    server.setblocking(False)
    began = due = heard = time.monotonic()
    client, number = None, 0
    print(f"port {server.getsockname()[1]}", flush=True)
    while seconds is None or time.monotonic() - began < seconds:
        now = time.monotonic()
        while True:
            try:
                content, client = server.recvfrom(65_536)
            except BlockingIOError:
                break
            arriving.put(json.loads(content)["action"], now)
        for action in arriving.due(now):
            simulation.apply(action)
            heard = now
        if now - heard > COMMAND_TIMEOUT:
            simulation.apply(np.zeros(simulation.model.nu))
        if now >= due:
            simulation.step()
            number += 1
            leaving.put({"time": now, "number": number, **simulation.state()}, now)
            due = max(due + simulation.control_step, now)
        for message in leaving.due(now):
            if client is not None:
                server.sendto(json.dumps(message).encode(), client)
        time.sleep(0.0005)
    server.close()


def where() -> Path:
    """The arm that dm_control brings."""
    found = importlib.util.find_spec("dm_control")
    if found is None or found.origin is None:
        raise SystemExit(
            "error: this example takes its arm from dm_control: pip install dm_control"
        )
    return Path(found.origin).parent / "suite" / "reacher.xml"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", action="store_true", help="print where dm_control's arm lies")
    parser.add_argument("model", type=Path, nargs="?", help="the MJCF file")
    parser.add_argument("--part", default="finger", help="the body or site that goals speak of")
    parser.add_argument("--port", type=int, default=8770)
    parser.add_argument("--control-step", type=float, default=0.05, help="s; as in training")
    parser.add_argument("--latency", type=float, default=0.0, help="s, in each direction")
    parser.add_argument("--loss", type=float, default=0.0, help="share of messages, each direction")
    parser.add_argument("--seconds", type=float, help="how long; by default until Ctrl-C")
    options = parser.parse_args(arguments)
    if options.where:
        print(where())
        return
    simulation = Simulation(options.model or where(), options.part, options.control_step)
    serve(simulation, options.port, options.latency, options.loss, options.seconds)


if __name__ == "__main__":
    main()
