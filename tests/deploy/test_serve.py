"""The page for trying a policy: it shows the true state, and only its own requests are answered."""

import math
import threading
import time
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.analysis.value_map import maps_of_goals
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.deploy.page import session as session_module
from kilolayer.deploy.page.bodies import poses, shapes
from kilolayer.deploy.page.ground import Ground
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import MAP_RESOLUTION, Session, open_session
from kilolayer.deploy.page.simulation import NamedPolicy, RobotSimulation, Simulator
from kilolayer.deploy.policy import ActorSpec, DeployedPolicy
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.tasks.ant import Ant
from kilolayer.tasks.arm import ArmReach
from kilolayer.tasks.cheetah import HalfCheetah
from kilolayer.tasks.point import PointMaze
from kilolayer.tasks.reacher import Reacher
from kilolayer.tasks.registry import make_task
from served import MAZE, SUBGOALS, ask, straight, wait_for_frame


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


def test_failure_of_an_own_planner_is_shown_and_a_new_goal_goes_on():
    broken = [True]

    def plan(*_: np.ndarray) -> np.ndarray:
        if broken[0]:
            raise ZeroDivisionError("no way")
        return SUBGOALS

    session = Session(MAZE, [NamedPolicy("agent", "", straight)], planner=plan)
    session.attach(lambda frame: None, lambda: 1)
    session.start()
    session.set_goal(np.array([1.0, 3.0]), restart=True)
    frame = wait_for_frame(session, lambda frame: frame.failure)
    assert frame.phase == "failed"
    assert "planner failed (ZeroDivisionError: no way)" in frame.failure
    broken[0] = False
    session.set_goal(np.array([1.0, 3.0]), restart=True)
    wait_for_frame(session, lambda frame: frame.time > 0)
    session.stop()


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
    expected = maps_of_goals(tiny_run, [[3.0, 1.0]], MAP_RESOLUTION)[0]
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
