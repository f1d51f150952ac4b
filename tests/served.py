"""What the tests of the page share: two agents on a maze, and how a browser asks."""

import http.client
import time

import numpy as np
from websockets.sync.client import connect

from kilolayer.analysis.value_map import ValueMap
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Frame, Session
from kilolayer.deploy.page.simulation import NamedPolicy
from kilolayer.tasks.point import PointMaze

MAZE = PointMaze("u")
SUBGOALS = np.array([[1.0, 2.0], [1.0, 2.6]])


def straight(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.clip(4 * (goal - observation[:2]), -1, 1)


def idle(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.zeros(2, np.float32)


def slope(goal: np.ndarray, x: np.ndarray, y: np.ndarray) -> ValueMap:
    return ValueMap(goal, x, y, np.add.outer(x, 10 * y))


TEACHER = NamedPolicy("teacher", "depth 16", straight)
STUDENT = NamedPolicy("student", "depth 4", idle)


def wait_until(true, seconds: float = 120):
    """The value of `true()` once it is true."""
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return value


def wait_for_frame(session: Session, true) -> Frame:
    return wait_until(lambda: frame if true(frame := session.frame()) else None)


def ask(server: PageServer, path: str = "/", method: str = "GET", **headers) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    assert answer.status >= 400 or "ws://" in answer.headers["Content-Security-Policy"]
    connection.close()
    return answer.status, text


def page_socket(server: PageServer, path: str = "/", origin: str | None = None, **options):
    """A WebSocket as viser's page opens it."""
    return connect(
        f"ws://127.0.0.1:{server.port}{path}",
        origin=origin,
        subprotocols=["viser-v1.1.1"],
        compression=None,
        **options,
    )


def drain(page) -> None:
    """Read the server's messages until the connection closes."""
    while True:
        page.recv(timeout=10)
