"""The page in a real browser."""

import math
import time
from pathlib import Path

import mujoco
import numpy as np
import pytest
from PIL import Image

from browser import Browser, browser, needs_browser
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Session
from kilolayer.deploy.page.simulation import NamedPolicy
from kilolayer.tasks.arm import ArmReach
from served import wait_until


def open_page(tab: Browser, server: PageServer) -> None:
    """Open the page and wait until its camera has the server's position."""
    viewer = server.view.server

    def stands() -> bool:
        tab.evaluate("1")  # the browser works while it is asked
        return any(
            np.allclose(client.camera.position, viewer.initial_camera.position, atol=1e-3)
            for client in viewer.get_clients().values()
        )

    tab.open(server.url, width=1200, height=600)
    wait_until(stands)


def pixel(tab: Browser, server: PageServer, point: tuple[float, float, float]) -> tuple:
    """Where the page shows a point, in pixels of the window."""
    (client,) = server.view.server.get_clients().values()
    camera = client.camera
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, np.array(camera.wxyz))
    right, down, ahead = turn.reshape(3, 3).T @ (np.array(point) - camera.position)
    half = math.tan(camera.fov / 2)
    left, top, width, height = tab.evaluate(
        "(() => { const box = document.querySelector('canvas').getBoundingClientRect(); "
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    x, y = right / ahead / (half * width / height), down / ahead / half
    return left + width * (1 + x) / 2, top + height * (1 + y) / 2


def colour(
    tab: Browser, server: PageServer, point: tuple[float, float, float], folder: Path
) -> np.ndarray:
    """Red, green and blue of the pixel at which the page shows a point of the scene, `[3]`."""
    tab.screenshot(folder / "page.png")
    picture = np.asarray(Image.open(folder / "page.png").convert("RGB")).astype(int)
    x, y = pixel(tab, server, point)
    return picture[round(y), round(x)]


def press(tab: Browser, label: str) -> None:
    tab.evaluate(
        "[...document.querySelectorAll('button')].find(button => "
        f"button.textContent.trim() == {label!r}).click()"
    )


@needs_browser
def test_click_sets_a_goal_in_the_browser(server, tmp_path):
    with browser(tmp_path / "profile") as tab:
        open_page(tab, server)
        tab.wait_for("document.body.innerText.includes('Click on the floor')")
        session = server.session
        tab.click(*pixel(tab, server, (1.0, 3.0, 0.0)))
        tab.wait_for("document.body.innerText.includes('The teacher reached the goal.')")
        frame = session.frame()
        # The click went where it was aimed.
        assert frame.goal == pytest.approx([1.0, 3.0], abs=0.1)
        assert (frame.robots[0].reached is not None, frame.robots[1].reached) == (True, None)
        text = tab.evaluate("document.body.innerText")
        for words in ("teacher", "depth 16", "median latency", " ms", "reached after"):
            assert words in text
        # The canvas shows the goal, green for the one who is there and orange for the other, on
        # the critic's map.
        session.pause(True)
        tab.wait_for("document.body.innerText.includes('Paused.')")
        away = server.view._figures[1].offset[0]
        deadline = time.monotonic() + 30  # a busy machine draws the scene after the text
        while True:
            red, green, blue = colour(tab, server, (1.3 + away, 3.1, 0.0), tmp_path)
            if red > green > blue:
                break
            assert time.monotonic() < deadline, (red, green, blue)
        red, green, blue = colour(tab, server, (1.3, 3.1, 0.0), tmp_path)
        assert green > red, (red, green, blue)
        assert green > blue, (red, green, blue)
        # A wall: the nearest place, said so; a button: a goal of the task.
        tab.click(*pixel(tab, server, (2.1 + away, 1.0, 0.0)))
        tab.wait_for("document.body.innerText.includes('No goal is allowed there')")
        assert session.frame().goal[0] == 2.75
        press(tab, "New goal")
        wait_until(lambda: tab.evaluate("1") and session.frame().goal[0] != 2.75)
        assert [line for line in tab.console if "onnect" not in line] == []


@needs_browser
def test_sliders_set_the_goal_in_the_browser(tmp_path):
    session = Session(ArmReach(), [NamedPolicy("agent", "", lambda *_: np.zeros(4, np.float32))])
    session.warm_up()
    with PageServer(session, 0) as server, browser(tmp_path / "profile") as tab:
        server.start()
        open_page(tab, server)
        tab.wait_for("document.body.innerText.includes('Move the sliders')")
        tab.evaluate("document.querySelectorAll('[role=slider]')[2].focus()")
        before = server.view._slider_goal()
        tab.press("ArrowRight")
        wait_until(lambda: tab.evaluate("1") and session.frame().goal is not None)
        assert session.frame().goal - before == pytest.approx([0, 0, 0.001], abs=2e-4)
