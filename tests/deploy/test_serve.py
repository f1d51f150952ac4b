"""The page for trying a policy: it shows the true state, and only its own requests are answered."""

import http.client
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import msgspec
import mujoco
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from browser import Browser, browser, needs_browser
from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.value_map import ValueMap, value_map
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.page import guard as guard_module
from kilolayer.deploy.page import session as session_module
from kilolayer.deploy.page.bodies import poses, shapes
from kilolayer.deploy.page.ground import Ground
from kilolayer.deploy.page.open_session import open_session
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import MAP_RESOLUTION, Frame, Session
from kilolayer.deploy.page.simulation import NamedPolicy, RobotSimulation, Simulator
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.tasks.ant import Ant
from kilolayer.tasks.arm import ArmReach
from kilolayer.tasks.cheetah import HalfCheetah
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.reacher import Reacher
from kilolayer.tasks.registry import make_task
from kilolayer.types import UserError

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


@pytest.fixture
def session() -> Iterator[Session]:
    """Watched, and stepping once it has a goal."""
    session = Session(MAZE, [TEACHER, STUDENT], slope, lambda *_: SUBGOALS)
    session.warm_up()
    session.attach(lambda frame: None, lambda: 1)
    session.start()
    yield session
    session.stop()


@pytest.fixture
def server() -> Iterator[PageServer]:
    session = Session(MAZE, [TEACHER, STUDENT], slope, lambda *_: SUBGOALS)
    session.warm_up()
    with PageServer(session, 0) as server:
        server.start()
        yield server


@pytest.fixture
def policy_path(tmp_path):
    spec = ActorSpec(TaskSpec(4, 2, 2), TorsoSpec(depth=4, width=16))
    actor = spec.init(jax.random.key(0))
    return (
        DeployedPolicy(tmp_path, run_config(), spec, actor, "distil", {})
        .save(tmp_path / "small")
        .path
    )


def wait_until(true, seconds: float = 120):
    """The value of `true()` once it is true."""
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return value


def wait_for_frame(session: Session, true) -> Frame:
    return wait_until(lambda: frame if true(frame := session.frame()) else None)


@pytest.mark.parametrize(
    ("task", "goal", "nearest"),
    [
        (MAZE, (1.4, 2.0), (1.4, 2.0)),
        # The wall between the arms of the U: 0.65 from the far arm's inner places, 0.85 from the
        # near one's.
        (MAZE, (2.1, 1.0), (2.75, 1.0)),
        (MAZE, (-5.0, 2.1), (0.75, 2.1)),
        (MAZE, (9.0, 9.0), (3.25, 3.25)),
        # Goals lie 10 m from the middle; a quarter more is shown.
        (Ant(), (100.0, 3.0), (12.5, 3.0)),
        (ArmReach(), (0.5, 0.5, 0.0), (0.2, 0.5, 0.1)),
    ],
)
def test_invalid_goal_moves_to_the_nearest_valid_goal(task, goal, nearest):
    found = Ground.of(task).nearest(np.array(goal))
    np.testing.assert_allclose(found, nearest, rtol=1e-5)


def test_free_coordinates_are_those_that_vary_between_goals():
    arm = Ground.of(ArmReach())
    assert (arm.places, arm.free.tolist()) == (False, [0, 1, 2])
    np.testing.assert_allclose([arm.low, arm.high], ArmReach().goal_box)
    reacher = Ground.of(Reacher())
    assert reacher.free.tolist() == [0, 1]  # its goals lie at one height
    np.testing.assert_allclose(reacher.high[:2], 0.2, atol=0.03)
    assert Ground.of(HalfCheetah()).free.tolist() == []  # 5 m ahead, always
    maze = Ground.of(MAZE)
    assert (maze.places, maze.bounds) == (True, (-0.5, -0.5, 4.5, 4.5))


def test_gymnasium_environment_is_refused():
    class Foreign(PointMaze):
        @property
        def world(self) -> GymnasiumWorld:
            return GymnasiumWorld("PointMaze_UMaze-v3", 0.01)

    with pytest.raises(UserError, match="cannot be shown on the page"):
        Ground.of(Foreign("u"))


SCENE = """
<mujoco>
  <asset>
    <mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/>
    <material name="red" rgba="1 0 0 0.5"/>
  </asset>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body pos="0 0 2">
      <joint type="slide" axis="1 0 0"/>
      <geom type="{kind}" size="0.1 0.2 0.3" mesh="{mesh}" material="red"
            pos="0 1 0" zaxis="1 0 0"/>
      <geom type="box" size="1 1 1" group="4"/>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(
    ("kind", "half"),
    [
        # The geom's z axis lies along x of its body.
        ("box", (0.3, 0.2, 0.1)),
        ("ellipsoid", (0.3, 0.2, 0.1)),
        ("sphere", (0.1, 0.1, 0.1)),
        ("capsule", (0.3, 0.1, 0.1)),
        ("cylinder", (0.2, 0.1, 0.1)),
    ],
)
def test_geoms_have_their_size_their_place_and_their_colour(kind, half):
    model = mujoco.MjModel.from_xml_string(SCENE.format(kind=kind, mesh="").replace(' mesh=""', ""))
    (shape,) = shapes(model)  # neither the plane nor what is in a hidden group
    assert (shape.body, shape.colour, shape.flat) == (1, (1, 0, 0, 0.5), kind == "box")
    bounds = np.array([0, 1, 0]) + np.outer([-1, 1], half)
    # A ball of triangles lies within the round one.
    np.testing.assert_allclose(shape.mesh.bounds, bounds, atol=0.01)
    position, quaternion = poses(model)(np.array([0.7]))
    np.testing.assert_allclose(position[1], [0.7, 0, 2])
    np.testing.assert_allclose(quaternion[1], [1, 0, 0, 0])


def test_mesh_matches_mujocos():
    model = mujoco.MjModel.from_xml_string(SCENE.format(kind="mesh", mesh="wedge"))
    (shape,) = shapes(model)
    # MuJoCo centres a mesh and keeps its size: a tetrahedron of 1/6 m^3.
    assert shape.mesh.volume == pytest.approx(1 / 6)
    assert len(shape.mesh.faces) == 4


def test_an_ant_has_its_torso_and_its_legs():
    model = Ant().world.model
    torso = next(shape for shape in shapes(model) if shape.mesh.bounds[1, 2] > 0.2)
    assert torso.mesh.bounds[1, 2] == pytest.approx(0.25, abs=0.01)
    # A quarter turn about z, at (3, 4).
    qpos = np.array([3, 4, 0.75, np.sqrt(0.5), 0, 0, np.sqrt(0.5), *[0.0] * 8])
    position, quaternion = poses(model)(qpos)
    np.testing.assert_allclose(position[torso.body], [3, 4, 0.75])
    np.testing.assert_allclose(quaternion[torso.body], qpos[3:7], rtol=1e-6)


def test_robot_simulation_steps_the_task_and_records():
    simulator = Simulator(MAZE)
    player = NamedPolicy("agent", "", lambda observation, goal: np.array([0.0, 1.0], np.float32))
    robot = RobotSimulation(player, MAZE, simulator, None)
    robot.begin(simulator.begin(jax.random.key(0), jnp.array([1.0, 3.0])))
    start = robot.frame().qpos
    robot.step()
    robot.step()
    frame = robot.frame()
    # Acceleration 6, drag 3, steps of 0.1 s: speeds 0.6 and 0.6 + 0.1 * (6 - 1.8) = 1.02.
    assert frame.qpos == pytest.approx([start[0], start[1] + 0.162], abs=2e-4)
    assert (len(frame.path), frame.reached, frame.at_goal) == (3, None, 0)
    while robot.frame().reached is None:
        robot.step()
    robot.step()
    frame = robot.frame()
    inside = [abs(place[1] - 3) < 0.5 for place in frame.path]
    assert frame.reached == pytest.approx(0.1 * inside.index(True))
    assert frame.reached == pytest.approx(0.1 * (len(frame.path) - 2))
    assert frame.at_goal == pytest.approx(0.2)


def test_planner_subgoals_are_pursued_in_order():
    goals_seen = []

    def follow(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        goals_seen.append(goal.round(4).tolist())
        return straight(observation, goal)

    session = Session(MAZE, [NamedPolicy("agent", "", follow)], planner=lambda *_: SUBGOALS)
    session.set_goal(np.array([1.0, 3.0]), restart=True)
    for _ in range(25):
        session._step()
    kept = [goal for at, goal in enumerate(goals_seen) if at == 0 or goal != goals_seen[at - 1]]
    # The goal itself follows once both subgoals are reached, for the plan is made anew only then.
    assert kept[:3] == [[1.0, 2.0], pytest.approx([1.0, 2.6]), [1.0, 3.0]]


def test_players_share_the_start_and_step_independently(session):
    assert session.set_goal(np.array([1.0, 3.0]), restart=True) is False
    first, second = session.frame().robots
    np.testing.assert_array_equal(first.path[0], second.path[0])
    frame = wait_for_frame(session, lambda frame: frame.robots[0].reached)
    teacher, student = frame.robots
    assert (frame.phase, student.reached) == ("moving", None)
    np.testing.assert_array_equal(student.qpos, second.qpos)
    median, late = teacher.latency
    assert 0 < median <= late
    # From where they stand, with a new record; and from a fresh start.
    session.pause(True)
    session.set_goal(np.array([1.0, 1.0]), restart=False)
    after = session.frame()
    assert (after.episode, after.time, after.robots[0].reached) == (frame.episode, 0, None)
    assert after.robots[0].qpos[1] > 2
    session.reset()
    assert session.frame().robots[0].qpos[1] < 1.5


def test_pause_stops_and_continues_the_clock(session):
    session.set_goal(np.array([1.0, 3.0]), restart=True)
    session.pause(True)
    stood = session.frame()
    time.sleep(0.3)
    assert (session.frame().phase, session.frame().time) == ("paused", stood.time)
    session.pause(False)
    wait_for_frame(session, lambda frame: frame.time > stood.time)


def test_clock_stops_without_viewers(session, monkeypatch):
    monkeypatch.setattr(session_module, "GRACE_PERIOD", 0.0)
    watchers = [0]
    session.attach(lambda frame: None, lambda: watchers[0])
    session.set_goal(np.array([1.0, 3.0]), restart=True)
    time.sleep(0.4)
    assert session.frame().time == 0
    watchers[0] = 1
    session.redraw()
    frame = wait_for_frame(session, lambda frame: frame.time > 0.8)
    # At real time, but on a machine that is busy: never faster.
    assert 0.05 < frame.pace < 1.3


def test_new_goal_is_an_evaluation_goal(session):
    session.new_goal(restart=True)
    first = session.frame().goal
    cells = MAZE.maze.goals("evaluation")
    assert np.abs(cells - first).max(-1).min() < 0.5
    session.new_goal(restart=True)
    assert (session.frame().goal != first).any()


def test_map_shows_the_critics_values(tiny_run):
    session = open_session(tiny_run.path)
    found = session.value_map(np.array([3.0, 1.0]))
    expected = value_map(tiny_run, [3.0, 1.0], MAP_RESOLUTION)
    np.testing.assert_allclose(found.x, expected.x)
    np.testing.assert_allclose(found.value, expected.value)


@pytest.mark.parametrize(
    ("name", "sliders"),
    [
        ("ant_ball", ["ball x", "ball y"]),
        ("arm_push_easy", ["cube x", "cube y"]),
        ("half_cheetah", []),
        ("reacher", ["tip x", "tip y"]),
    ],
)
def test_every_kind_of_task_is_shown(name, sliders):
    task = make_task(name)
    idle = NamedPolicy("agent", "", lambda *_: np.zeros(task.action_dim, np.float32))
    session = Session(task, [idle])
    with PageServer(session, 0) as server:
        server.start()
        session.pause(True)
        session.new_goal(restart=True)
        frame, scene = session.frame(), server.view.server.scene
        position, _ = poses(task.world.model)(frame.robots[0].qpos)
        for body in range(task.world.model.nbody):
            shown = scene.get_handle_by_name(f"/agent/body {body}").position
            np.testing.assert_allclose(shown, position[body], atol=1e-6)
        goal = scene.get_handle_by_name("/agent/goal 0")
        assert goal.visible
        # The goal on the floor is lifted out of it.
        np.testing.assert_allclose(
            goal.position, task.goal_points(frame.robots[0].goal)[0], atol=0.1
        )
        coordinates = task.goal.coordinates
        found = [coordinates[number].name for number in server.view._sliders]
        assert found == sliders
        # Any number may come from a page.
        for number, slider in server.view._sliders.items():
            slider._impl.value = [math.nan, 1e300][number % 2]
        with pytest.raises(UserError, match="finite numbers") if sliders else nullcontext():
            server.view._send(server.view._slider_goal())


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


def test_page_answers_to_local_host_names(server):
    for name in ("localhost", "127.0.0.1", "[::1]"):
        for port in (server.port, 9000):  # the latter through a tunnel
            host = f"{name}:{port}"
            status, text = ask(server, Host=host, Origin=f"http://{host}")
            assert (status, "<!doctype html>" in text) == (200, True)
    with page_socket(server, origin=f"http://127.0.0.1:{server.port}") as page:
        assert len(page.recv(timeout=10)) > 16  # the scene


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "evil.example"}, 403, "only the page of kilolayer serve"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "only the page"),
        ({"Host": "192.168.0.7"}, 403, "only the page"),
        ({"Host": "localhost:80; script-src *"}, 403, "only the page"),
        ({"Host": "[broken"}, 403, "only the page"),
        ({"Host": ""}, 403, "only the page"),
        ({"Origin": "http://evil.example"}, 403, "only the page"),
        ({"Origin": "null"}, 403, "only the page"),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403, "only the page"),
    ],
)
def test_foreign_requests_are_refused_with_a_reason(server, headers, status, words, capfd):
    for upgrade in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
        found, text = ask(server, **headers, **upgrade)
        assert (found, words in text, text.count("\n")) == (status, True, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "length",
    ["1", "99999999", "00000000099999999", "9" * 5000, "-1", "1e9", "0x10", "1, 1", "\u0661"],
)
def test_request_bodies_are_refused(server, length):
    """The server does not read the body, since the page only requests files."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = (
            f"GET / HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = connection.recv(4096)
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert not answer.startswith(b"HTTP/1.1 200")


def test_foreign_websockets_are_refused(server):
    for origin in ("http://evil.example", "null", f"http://localhost:{server.port}"):
        with pytest.raises(InvalidStatus, match="403"), page_socket(server, origin=origin):
            pass
    evil = {"Host": f"evil.example:{server.port}"}
    with (
        pytest.raises(InvalidStatus, match=r"40[03]"),
        page_socket(server, additional_headers=evil),  # a second Host beside the true one
    ):
        pass


def test_invalid_requests_are_refused_silently(server, capfd):
    assert ask(server, "/nothing")[0] == 404
    assert ask(server, "/../../__init__.py")[0] == 404
    with pytest.raises((http.client.HTTPException, ConnectionError, AssertionError)):
        assert ask(server, "/", "POST")[0] == 200
    with page_socket(server) as page:
        page.send(b"\xff" * 100)
        with pytest.raises(ConnectionClosed):
            drain(page)
    assert capfd.readouterr().err == ""


def test_long_messages_and_many_pages_are_refused(server):
    with page_socket(server) as page:
        page.send(b"x" * (guard_module.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            drain(page)
    wait_until(lambda: not server.view.server._websock_server._live_connections)
    pages = [page_socket(server) for _ in range(guard_module.CLIENTS)]
    with pytest.raises(InvalidStatus, match="503"), page_socket(server):
        pass
    for page in pages:
        page.close()


def test_public_tunnel_is_disabled(server, monkeypatch):
    """viser's own page may ask for a public address."""
    requests = []
    monkeypatch.setattr(
        type(server.view.server), "request_share_url", lambda *_, **__: requests.append(1)
    )
    with page_socket(server) as page:
        page.send(msgspec.msgpack.encode({"type": "ShareUrlRequest"}))
        # An answer to a later message shows that the first one was read.
        page.ping().wait(10)
        time.sleep(0.3)
    assert requests == []


def test_viser_bypassing_the_guard_is_stopped(session, monkeypatch):
    stopped = []
    unguarded = SimpleNamespace(stop=lambda: stopped.append(1))
    monkeypatch.setattr(guard_module.viser, "ViserServer", lambda **_: unguarded)
    with PageServer(session, 0) as server, pytest.raises(RuntimeError, match="without the guard"):
        server.start()
    assert stopped == [1]


def test_other_host_requires_the_token():
    session = Session(MAZE, [STUDENT])
    with PageServer(session, 0, host="0.0.0.0") as server:
        server.start()
        token = server.url.rpartition("/")[2]
        assert len(token) >= 20
        for path in ("/", f"/{token[:-1]}", f"/x{token}", f"/{token}x/", "/%00", "/%ff"):
            found, text = ask(server, path)
            assert (found, "lacks the token" in text) == (403, True), path
        assert ask(server, f"/{token}")[0] == ask(server, f"/{token}/?x=1")[0] == 200
        # An address in numbers is this machine's own; a name may be pointed here by anybody.
        assert ask(server, f"/{token}", Host="192.168.0.7:80")[0] == 200
        assert ask(server, f"/{token}", Host="evil.example")[0] == 403
        with pytest.raises(InvalidStatus, match="403"), page_socket(server):
            pass
        with page_socket(server, f"/{token}") as page:
            assert page.recv(timeout=10)
    with PageServer(Session(MAZE, [STUDENT]), 0, host="0.0.0.0") as other:
        assert other.url.rpartition("/")[2] != token


def test_used_port_is_reported_with_a_free_one(server, policy_path, capsys):
    port = server.port
    with pytest.raises(SystemExit) as stop:
        main(["serve", str(policy_path), "--port", str(port)])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: port {port} is in use by another program: --port ")
    free = int(error.split("--port ")[1].split()[0])
    assert port < free < port + 50
    PageServer(server.session, free).stop()
    with pytest.raises(UserError, match="port = 70000 is not allowed"):
        PageServer(server.session, 70000)
    with pytest.raises(UserError, match=r"of 192\.0\.2\.1 cannot be opened"):
        PageServer(server.session, 0, host="192.0.2.1")


def test_student_of_another_task_is_refused(policy_path, tmp_path):
    spec = ActorSpec(TaskSpec(29, 8, 2), TorsoSpec(depth=4, width=16))
    actor = spec.init(jax.random.key(0))
    ant = DeployedPolicy(tmp_path, run_config(task="ant"), spec, actor, "distil", {})
    ant = ant.save(tmp_path / "ant").path
    with pytest.raises(UserError, match=r"plays ant and the teacher .* plays point_u_maze"):
        open_session(policy_path, ant)
    with pytest.raises(UserError, match="no critic's map"):
        open_session(policy_path).value_map(np.array([1.0, 3.0]))


def test_serve_prints_its_address_and_stops_quietly(policy_path, monkeypatch, capsys):
    def interrupted(server: PageServer) -> None:
        servers.append(server)
        server.start()
        assert server.session._thread.is_alive()
        assert ask(server)[0] == 200
        raise KeyboardInterrupt

    servers: list[PageServer] = []
    monkeypatch.setattr(PageServer, "run", interrupted)
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    main(["serve", str(policy_path), "--port", "0", "--open"])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"page  {servers[0].url}   Ctrl-C ends it",
        "no browser was found: open the address by hand",
    ]
    assert captured.err.splitlines() == ["open ...", "agent ..."]
    # A thread that the interpreter's end meets inside the physics would be a crash.
    assert not servers[0].session._thread.is_alive()
    assert "viser" not in " ".join(thread.name for thread in threading.enumerate())


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
        tab.screenshot(tmp_path / "page.png")
        picture = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
        away = server.view._figures[1].offset[0]
        x, y = pixel(tab, server, (1.3 + away, 3.1, 0.0))
        red, green, blue = picture[round(y), round(x)]
        assert red > green > blue, (red, green, blue)
        x, y = pixel(tab, server, (1.3, 3.1, 0.0))
        red, green, blue = picture[round(y), round(x)]
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
