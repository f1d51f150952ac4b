"""The page to try a policy on: what it shows is true, what it is asked for wrongly it refuses."""

import http.client
import json
import threading
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from browser import browser, needs_browser
from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.value_map import ValueMap, value_map
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.page import session as session_module
from kilolayer.deploy.page.ground import Ground, heading, outline
from kilolayer.deploy.page.lane import Lane, Player, Simulator
from kilolayer.deploy.page.open_session import open_session
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import MAP_RESOLUTION, Session
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.tasks.ant import Ant
from kilolayer.tasks.cheetah import HalfCheetah
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.reacher import Reacher
from kilolayer.types import UserError

MAZE = PointMaze("u")
SUBGOALS = np.array([[1.0, 2.0], [1.0, 2.6]])


def straight(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.clip(4 * (goal - observation[:2]), -1, 1)


def idle(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
    return np.zeros(2, np.float32)


def slope(goal: np.ndarray, x: np.ndarray, y: np.ndarray) -> ValueMap:
    return ValueMap(goal, x, y, np.add.outer(x, 10 * y))


TEACHER = Player("teacher", "depth 16", straight)
STUDENT = Player("student", "depth 4", idle)


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(MAZE, [TEACHER, STUDENT], slope, lambda *_: SUBGOALS)
    session.warm_up()
    session.start()
    yield session
    session.stop()


@pytest.fixture
def server(session) -> Iterator[PageServer]:
    with PageServer(session, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def policy_path(tmp_path):
    spec = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=4, width=16))
    actor = spec.init(jax.random.key(0))
    return (
        DeployedPolicy(tmp_path, run_config(), spec, actor, "distil", {})
        .save(tmp_path / "small")
        .path
    )


@pytest.mark.parametrize(
    ("task", "place", "nearest"),
    [
        (MAZE, (1.4, 2.0), (1.4, 2.0)),
        # The wall between the arms of the U: 0.65 from the far arm's inner places, 0.85 from the
        # near one's.
        (MAZE, (2.1, 1.0), (2.75, 1.0)),
        (MAZE, (-5.0, 2.1), (0.75, 2.1)),
        (MAZE, (9.0, 9.0), (3.25, 3.25)),
        # Goals lie 10 m from the middle; a quarter more is shown.
        (Ant(), (100.0, 3.0), (12.5, 3.0)),
    ],
)
def test_a_goal_that_cannot_be_is_put_at_the_nearest_place(task, place, nearest):
    found = Ground.of(task).nearest(np.array(place))
    np.testing.assert_allclose(found, nearest, rtol=1e-5)


@pytest.mark.parametrize("task", [HalfCheetah(), Reacher()])
def test_a_task_without_places_is_told(task):
    with pytest.raises(UserError, match="no ground to click on"):
        Ground.of(task)


def test_bodies_are_drawn_from_above():
    task = Ant()
    # A quarter turn about z; the torso leads, four legs have three parts each.
    turned = np.array([3, 4, 0.75, np.sqrt(0.5), 0, 0, np.sqrt(0.5), *[0.0] * 8])
    segments = outline(task.world, Ground.of(task))(turned, turned[:2])
    assert len(segments) == 13
    assert [3, 4, 3, 4, 0.25] in [pytest.approx(segment) for segment in segments]
    assert heading(task.world, turned) == pytest.approx([0, 1])
    # The leg at 45 degrees to the front and left points back and left after the turn.
    ends = [sorted([segment[:2], segment[2:4]]) for segment in segments]
    assert any(np.allclose(pair, [[2.8, 4.2], [3, 4]]) for pair in ends)


def test_a_lane_steps_the_task_and_keeps_the_record():
    simulator = Simulator(MAZE)
    player = Player("agent", "", lambda observation, goal: np.array([0.0, 1.0], np.float32))
    lane = Lane(player, MAZE, Ground.of(MAZE), simulator, None)
    lane.begin(simulator.begin(jax.random.key(0), jnp.array([1.0, 3.0])))
    start = lane.frame(whole=False)["place"]
    lane.step()
    lane.step()
    frame = lane.frame(whole=True)
    # Acceleration 6, drag 3, steps of 0.1 s: speeds 0.6 and 0.6 + 0.1 * (6 - 1.8) = 1.02.
    assert frame["place"] == pytest.approx([start[0], start[1] + 0.162], abs=2e-4)
    assert (len(frame["trail"]), frame["reached"], frame["at_goal"]) == (3, None, 0)
    while lane.frame(whole=False)["reached"] is None:
        lane.step()
    lane.step()
    frame = lane.frame(whole=True)
    steps = len(frame["trail"]) - 1
    inside = [abs(place[1] - 3) < 0.5 for place in frame["trail"]]
    assert frame["reached"] == pytest.approx(0.1 * inside.index(True)) == 0.1 * (steps - 1)
    assert frame["at_goal"] == pytest.approx(0.2)


def test_a_planner_leads_from_subgoal_to_subgoal():
    told = []

    def follow(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        told.append(goal.round(4).tolist())
        return straight(observation, goal)

    session = Session(MAZE, [Player("agent", "", follow)], planner=lambda *_: SUBGOALS)
    session.set_goal([1.0, 3.0], restart=True)
    for _ in range(25):
        session._step()
    kept = [goal for at, goal in enumerate(told) if at == 0 or goal != told[at - 1]]
    # The goal itself follows once both subgoals are reached, for the plan is made anew only then.
    assert kept[:3] == [[1.0, 2.0], pytest.approx([1.0, 2.6]), [1.0, 3.0]]


def test_both_start_alike_and_go_on_alone(session):
    moved = session.set_goal([1.0, 3.0], restart=True)
    assert moved == {"goal": [1.0, 3.0], "moved": False}
    first, *_ = lanes = json.loads(next(session.frames()))["lanes"]
    assert first["place"] == lanes[1]["place"]
    frame = _watch_until(session, lambda frame: frame["lanes"][0]["reached"])
    teacher, student = frame["lanes"]
    assert (frame["phase"], student["reached"]) == ("moving", None)
    assert student["place"] == lanes[1]["place"]
    assert 0 < teacher["latency"]["median"] <= teacher["latency"]["late"]
    # From where they stand, with a new record; and from a fresh start.
    session.set_goal([1.0, 1.0], restart=False)
    scene = session.scene()["frame"]
    assert (scene["episode"], scene["time"]) == (frame["episode"], 0)
    assert scene["lanes"][0]["place"][1] > 2
    session.reset()
    assert session.scene()["frame"]["lanes"][0]["place"][1] < 1.5


def _watch_until(session: Session, true, seconds: float = 20) -> dict:
    until = time.monotonic() + seconds
    with session.watching():
        for text in session.frames():
            frame = json.loads(text or "{}")
            if text and true(frame):
                return frame
            assert time.monotonic() < until, frame
    raise AssertionError("the session ended")


def test_the_clock_stands_while_nobody_watches(session, monkeypatch):
    monkeypatch.setattr(session_module, "LINGER", 0.0)
    session.set_goal([1.0, 3.0], restart=True)
    time.sleep(0.4)
    assert session.scene()["frame"]["time"] == 0
    frame = _watch_until(session, lambda frame: frame["time"] > 0.3)
    # At real time: the pace of a tenth of a second a step, measured over few steps.
    assert frame["pace"] == pytest.approx(1, abs=0.5)


def test_the_map_is_the_critics(tiny_run):
    session = open_session(tiny_run.path)
    found = session.value_map([3.0, 1.0])
    expected = value_map(tiny_run, [3.0, 1.0], MAP_RESOLUTION)
    np.testing.assert_allclose(found.x, expected.x)
    np.testing.assert_allclose(found.value, expected.value)


def _ask(server: PageServer, method: str, path: str, body=None, **headers) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


BAD_REQUESTS = [
    ("GET", "/nothing", None, {}, 404, "nothing at this address"),
    ("GET", "/../serve.py", None, {}, 404, "nothing at this address"),
    ("GET", "/map?goal=1", None, {}, 400, "two finite numbers"),
    ("GET", "/map?goal=1,nan", None, {}, 400, "two finite numbers"),
    ("GET", "/state", None, {"Host": "evil.example"}, 403, "only the page at http://127.0.0.1"),
    ("GET", "/state", None, {"Host": "[broken"}, 403, "only the page"),
    ("GET", "/events", None, {"Origin": "http://evil.example"}, 403, "only the page"),
    ("POST", "/reset", None, {"Origin": "null"}, 403, "only the page"),
    ("POST", "/goal", b"{", {}, 400, "not a JSON object"),
    ("POST", "/goal", b"\xff", {}, 400, "not a JSON object"),
    ("POST", "/goal", b"[" * 1000, {}, 400, "not a JSON object"),
    ("POST", "/goal", b"[1, 2]", {}, 400, "not a JSON object"),
    ("POST", "/goal", b"{}", {}, 400, "a goal is sent as"),
    ("POST", "/goal", b'{"goal": [1, 2], "restart": 1}', {}, 400, "a goal is sent as"),
    ("POST", "/goal", b'{"goal": [1]}', {}, 400, "two finite numbers"),
    ("POST", "/goal", b'{"goal": [1, NaN]}', {}, 400, "two finite numbers"),
    ("POST", "/goal", b'{"goal": [true, 1, 2]}', {}, 400, "two finite numbers"),
    ("POST", "/goal", b'{"goal": [1, {}]}', {}, 400, "two finite numbers"),
    ("POST", "/goal", b"1" * 70_000, {}, 413, "at most 65536 bytes"),
    ("POST", "/goal", b"", {"Content-Length": "many"}, 400, "length of the request"),
    ("POST", "/goal", b"", {"Content-Length": "9" * 5000}, 413, "at most 65536 bytes"),
    ("POST", "/nothing", b"{}", {}, 404, "nothing at this address"),
    ("PUT", "/goal", b"{}", {}, 501, "Unsupported method"),
]


def test_wrong_requests_get_one_sentence(server, capfd):
    before = server.session.scene()["frame"]["episode"]
    for method, path, body, headers, status, words in BAD_REQUESTS:
        found, text = _ask(server, method, path, body, **headers)
        sentence = json.loads(text)["error"]
        assert (found, words in sentence) == (status, True), (path, body, headers, text)
        assert "\n" not in sentence
    assert server.session.scene()["frame"]["episode"] == before
    assert capfd.readouterr().err == ""


def test_the_page_is_answered_and_steers(server):
    port = server.server_port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost:9000"):
        status, text = _ask(server, "GET", "/", Host=host, Origin=f"http://{host}")
        assert (status, "<h1" in text) == (200, True)
    status, text = _ask(server, "POST", "/goal", json.dumps({"goal": [2.1, 1.0]}))
    assert (status, json.loads(text)) == (200, {"goal": [2.75, 1.0], "moved": True})
    assert _ask(server, "POST", "/reset") == (200, "{}")
    drawn = json.loads(_ask(server, "GET", "/map?goal=1,3")[1])
    assert drawn["scale"] == pytest.approx([11 * -0.4375, 11 * 4.4375], rel=1e-4)
    assert np.shape(drawn["values"]) == (40, 40)


def test_a_port_in_use_is_told_with_the_next_free_one(server, session, policy_path, capsys):
    port = server.server_port
    with pytest.raises(SystemExit) as stop:
        main(["serve", str(policy_path), "--port", str(port)])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: port {port} is in use by another program: --port ")
    free = int(error.split("--port ")[1].split()[0])
    assert port < free < port + 50
    PageServer(session, free).server_close()
    with pytest.raises(UserError, match="port = 70000 is not allowed"):
        PageServer(session, 70000)


def test_a_student_of_another_task_is_told(policy_path, tmp_path):
    spec = ActorSpec(TaskSpec(29, 8, 2), TorsoSpec(depth=4, width=16))
    actor = spec.init(jax.random.key(0))
    ant = DeployedPolicy(tmp_path, run_config(task="ant"), spec, actor, "distil", {})
    ant = ant.save(tmp_path / "ant").path
    with pytest.raises(UserError, match=r"plays ant and the teacher .* plays point_u_maze"):
        open_session(policy_path, ant)
    with pytest.raises(UserError, match="no critic's map"):
        open_session(policy_path).value_map([1.0, 3.0])


def test_the_command_tells_its_address_and_stops_quietly(policy_path, monkeypatch, capsys):
    def interrupted(server: PageServer) -> None:
        servers.append(server)
        assert server.session._thread.is_alive()
        raise KeyboardInterrupt

    servers: list[PageServer] = []
    monkeypatch.setattr(PageServer, "serve_forever", interrupted)
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    main(["serve", str(policy_path), "--port", "0", "--open"])
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"page  {servers[0].url}   Ctrl-C ends it",
        "no browser was found: open the address by hand",
    ]
    assert told.err.splitlines() == ["open ...", "agent ..."]
    # A thread that the interpreter's end meets inside the physics would be a crash.
    assert not servers[0].session._thread.is_alive()


PIXEL = """(() => { const plane = document.querySelectorAll(".plane")[%d];
  const at = new DOMPoint(%f, %f).matrixTransform(plane.getScreenCTM());
  return [at.x, at.y]; })()"""


@needs_browser
def test_a_person_clicks_a_goal_and_sees_it_reached(server, tmp_path):
    with browser(tmp_path / "profile") as tab:
        tab.open(server.url)
        tab.wait_for("document.querySelectorAll('.player').length == 2")
        tab.wait_for("document.querySelector('#status').textContent.startsWith('Click')")
        tab.click(*tab.evaluate(PIXEL % (0, 1.0, 3.0)))
        # The click went where it was aimed, and the plan is drawn.
        tab.wait_for("document.querySelectorAll('.ground .subgoal').length >= 3")
        goal = tab.evaluate("[document.querySelector('#goal-x').value, shown.goal[1]]")
        assert [float(goal[0]), goal[1]] == pytest.approx([1, 3], abs=0.05)
        place = (
            "[...document.querySelectorAll('.ground .subgoal')].map((dot) => dot.cx.baseVal.value)"
        )
        assert tab.evaluate(place)[-1] == pytest.approx(1.0)
        tab.wait_for("document.querySelector('.outcome').textContent.startsWith('Reached after')")
        assert "The teacher reached the goal." in tab.evaluate("document.body.innerText")
        assert tab.evaluate("document.querySelectorAll('.player.reached').length") == 1
        assert tab.evaluate("document.querySelector('.median').textContent").endswith(" ms")
        assert tab.evaluate("document.querySelector('.values').href.baseVal").startswith("data:")
        # With the keys alone: the map, two steps to the right, Enter.
        tab.evaluate("document.querySelector('.ground').focus()")
        for key in ("ArrowRight", "ArrowRight", "Enter"):
            tab.press(key)
        tab.wait_for("shown.goal[0] > 1.2")
        # A wall: the nearest place, said so.
        tab.click(*tab.evaluate(PIXEL % (1, 2.1, 1.0)))
        tab.wait_for("document.querySelector('#status').textContent.startsWith('No goal can be')")
        assert tab.evaluate("shown.goal")[0] == 2.75
        assert tab.console == []
