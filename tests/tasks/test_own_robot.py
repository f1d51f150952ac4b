"""User robots: known kinematics, names, goals, starts, and every invalid input."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.physics.native import NativePhysics
from kilolayer.tasks import own_robot
from kilolayer.tasks.choice import TaskChoice
from kilolayer.tasks.coordinates import sensor_names, state_names
from kilolayer.tasks.motion import Motion
from kilolayer.tasks.registry import task_of

# Links of 1 m and 0.5 m that turn about z, 0.2 m above the ground: the tip is at
# (cos a + cos(a + b) / 2, sin a + sin(a + b) / 2, 0.2).
ARM = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <site name="corner"/>
    <body name="upper" pos="0 0 0.2">
      <joint name="shoulder" axis="0 0 1" damping="1"/>
      <geom type="capsule" fromto="0 0 0 1 0 0" size="0.02" contype="0" conaffinity="0"/>
      <body name="lower" pos="1 0 0">
        <joint name="elbow" axis="0 0 1" damping="1" limited="true" range="-2 0.01"/>
        <geom type="capsule" fromto="0 0 0 0.5 0 0" size="0.02" contype="0" conaffinity="0"/>
        <site name="tip" pos="0.5 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="push" joint="shoulder" gear="5" ctrlrange="-1 1"/>
    <position joint="elbow" kp="20" inheritrange="1"/>
  </actuator>
  KEYS
</mujoco>
"""
MENAGERIE = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body name="drone" pos="0 0 1">
      <freejoint/>
      <geom size="0.1"/>
      <site name="imu"/>
      <body name="eye" pos="0 0 0.1">
        <joint name="gaze" type="ball" limited="true" range="0 0.5"/><geom size="0.05"/>
      </body>
      <body name="cart" pos="0 0 -0.3">
        <joint name="rail" type="slide" limited="true" range="0 0.004"/>
        <joint name="wheel" axis="0 1 0"/>
        <geom size="0.05"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general name="slow" joint="rail" dyntype="filter" dynprm="0.5" ctrlrange="-1 1" gainprm="3"/>
  </actuator>
  <sensor>
    <gyro name="gyro" site="imu"/>
    <framequat name="compass" objtype="site" objname="imu"/>
    <jointpos joint="rail"/>
    <actuatorfrc name="push" actuator="slow"/>
    <jointvel name="spin" joint="wheel"/>
  </sensor>
</mujoco>
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(text)`: a file robot.xml of this text, in an empty current directory; its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("robot.xml").write_text(text.replace("KEYS", ""))
        return "robot.xml"

    return write


def arm(write, text: str = ARM, **options) -> own_robot.OwnRobot:
    task = task_of(TaskChoice(mjcf=write(text), **{"goal_site": "tip", **options}))
    assert isinstance(task, own_robot.OwnRobot)
    return task


@pytest.mark.parametrize(
    ("part", "length"),
    [({"goal_site": "tip"}, 0.5), ({"goal_site": None, "goal_body": "lower"}, 0)],
)
def test_achieved_goal_is_the_position_of_the_body_part(write, part, length):
    task = arm(write, **part)
    angles = np.array([[0.0, 0.0], [0.5, -1.5], [4.0, -0.3]])
    state = NativePhysics(task.world, 3, threads=1).init(jnp.asarray(angles), jnp.zeros((3, 2)))
    a, b = angles.T
    expected = [np.cos(a) + length * np.cos(a + b), np.sin(a) + length * np.sin(a + b), 0 * a + 0.2]
    np.testing.assert_allclose(task.achieved_goal(state), np.transpose(expected), atol=1e-6)
    name = next(filter(None, part.values()))
    assert [(c.name, c.unit) for c in task.goal.coordinates] == [
        (f"{name} {axis}", "m") for axis in "xyz"
    ]


def test_every_number_has_a_name_and_a_unit(write):
    task = arm(write, MENAGERIE, goal_site=None, goal_body="cart")
    model = task.world.model
    turn = [(f"quaternion {part}", "1") for part in "wxyz"]
    spin = [(f"angular velocity {axis}", "rad/s") for axis in "xyz"]
    position = [*((axis, "m") for axis in "xyz"), *turn]
    velocity = [*((f"{axis} velocity", "m/s") for axis in "xyz"), *spin]
    assert [(c.name, c.unit) for c in state_names(model)] == [
        *((f"drone {name}", unit) for name, unit in position),
        *((f"gaze {name}", unit) for name, unit in turn),
        ("rail", "m"),
        ("wheel", "rad"),
        *((f"drone {name}", unit) for name, unit in velocity),
        *((f"gaze {name}", unit) for name, unit in spin),
        ("rail velocity", "m/s"),
        ("wheel velocity", "rad/s"),
    ]
    assert [(c.name, c.unit) for c in sensor_names(model)] == [
        *((f"sensor gyro {axis}", "rad/s") for axis in "xyz"),
        *((f"sensor compass {axis}", "1") for axis in "wxyz"),
        ("sensor 2", "m"),
        ("sensor push", "N"),
        ("sensor spin", "rad/s"),
    ]
    qpos, qvel = task.reset(jax.random.key(0), jnp.zeros((3, 3)), "evaluation")
    state = NativePhysics(task.world, 3, threads=1).init(qpos, qvel)
    observed = np.asarray(task.observe(state))
    assert observed.shape == (3, len(task.observation))
    rail = [c.name for c in task.observation].index("rail")
    sensor = [c.name for c in task.observation].index("sensor 2")
    np.testing.assert_array_equal(observed[:, rail], observed[:, sensor])


def test_goals_are_positions_visited_by_random_motion(write):
    task, again = arm(write), arm(write)
    np.testing.assert_array_equal(task.positions, again.positions)
    assert len(np.unique(task.positions, axis=0)) == len(task.positions) == own_robot.MAX_GOALS
    goals = np.asarray(task.sample_goal(jax.random.key(0), 500, "training"))
    assert {tuple(goal) for goal in goals} <= {
        tuple(place) for place in task.positions.astype(np.float32)
    }
    # In reach: 1.5 m when stretched, hypot(1 + cos 2 / 2, sin 2 / 2) when bent as far as it goes.
    distance = np.linalg.norm(goals[:, :2], axis=-1)
    assert 0.85 < distance.min() < 1.0 < 1.4 < distance.max() < 1.51
    np.testing.assert_allclose(goals[:, 2], 0.2, atol=1e-5)
    diagonal = np.linalg.norm(task.positions.max(0) - task.positions.min(0))
    assert task.goal.radius == pytest.approx(0.05 * diagonal)
    assert task.goal.easy_radius == 2 * task.goal.radius


def test_goals_exclude_diverged_environments(write, monkeypatch):
    """World 0 diverges half-way; its earlier positions, 9 m up, do not count either."""
    play = own_robot.random_motion

    def diverging(*arguments) -> Motion:
        motion = play(*arguments)
        achieved = motion.achieved.at[:50, 0, 2].set(9.0).at[50:, 0].set(jnp.nan)
        return Motion(motion.observation, achieved, motion.goal, motion.alive)

    monkeypatch.setattr(own_robot, "MAX_GOALS", own_robot.ENVS * own_robot.STEPS)  # all of them
    monkeypatch.setattr(own_robot, "random_motion", diverging)
    positions = arm(write).positions
    assert positions.shape == ((own_robot.ENVS - 1) * own_robot.STEPS, 3)
    np.testing.assert_allclose(positions[:, 2], 0.2, atol=1e-5)


def test_goals_lie_in_the_goal_box(write):
    """Half of this box is out of reach, which is allowed."""
    task = arm(write, goal_box="1,-0.5,0.2,2,0.5,0.2", goal_radius=0.3)
    goals = np.asarray(task.sample_goal(jax.random.key(0), 500, "evaluation"))
    assert task.goal.radius == 0.3
    np.testing.assert_allclose(goals.min(0), [1, -0.5, 0.2], atol=0.01)
    np.testing.assert_allclose(goals.max(0), [2, 0.5, 0.2], atol=0.01)


def test_goal_box_of_a_free_body_may_lie_anywhere(write):
    box = {"goal_site": None, "goal_body": "drone", "goal_box": "90,0,0,91,0,0"}
    assert arm(write, MENAGERIE, **box).box is not None


@pytest.mark.parametrize(
    ("keys", "start"),
    [
        ("", (0, 0)),
        ('<keyframe><key name="a" qpos="3 -1"/></keyframe>', (3, -1)),
        ('<keyframe><key name="a" qpos="3 -1"/><key name="home" qpos="9 -1.5"/></keyframe>',
         (9, -1.5)),
    ],
)  # fmt: skip
def test_starts_surround_the_home_pose_within_limits(write, keys, start):
    task = arm(write, ARM.replace("KEYS", keys))
    qpos, qvel = task.reset(jax.random.key(0), jnp.zeros((2_000, 3)), "training")
    qpos = np.asarray(qpos)
    assert not np.asarray(qvel).any()
    # The shoulder has no limits; the elbow's 2.01 rad allow its noise in full, but not past 0.01.
    np.testing.assert_allclose(qpos.min(0), np.array(start) - 0.05, atol=1e-3)
    np.testing.assert_allclose(qpos[:, 0].max(), start[0] + 0.05, atol=1e-3)
    np.testing.assert_allclose(qpos[:, 1].max(), min(0.01, start[1] + 0.05), atol=1e-3)


def test_starts_of_free_ball_and_short_joints(write):
    task = arm(write, MENAGERIE, goal_site=None, goal_body="cart")
    qpos, _ = task.reset(jax.random.key(0), jnp.zeros((500, 3)), "training")
    qpos = np.asarray(qpos)
    np.testing.assert_allclose(np.abs(qpos[:, :2]).max(0), 0.01, atol=1e-3)
    np.testing.assert_allclose(qpos[:, 2:7], np.tile([1, 1, 0, 0, 0], (500, 1)))
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 7:11], axis=-1), 1, rtol=1e-6)
    assert qpos[:, 8:11].std() > 0.005
    assert 0 <= qpos[:, 11].min() < qpos[:, 11].max() <= 0.05 * 0.004 + 1e-9


def test_actions_span_each_actuators_range(write):
    """A position actuator that inherited its joint's range holds the middle of it at action 0."""
    task = arm(write)
    np.testing.assert_allclose(task.world.model.actuator_ctrlrange, [[-1, 1], [-2, 0.01]])
    physics = NativePhysics(task.world, 3, threads=1)
    state = physics.init(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    for _ in range(100):
        state = physics.step(state, jnp.array([[0, -1.0], [0, 0], [0, 1]]))
    np.testing.assert_allclose(state.qpos[:, 1], [-2, -0.995, 0.01], atol=0.02)


def test_actuator_activation_persists_between_steps(write):
    """A filter of 0.5 s under full control: its force of 3 N grows as 1 - exp(-t / 0.5)."""
    task = arm(write, MENAGERIE, goal_site=None, goal_body="cart")
    physics = NativePhysics(task.world, 2, threads=1)
    qpos, qvel = task.reset(jax.random.key(0), jnp.zeros((2, 3)), "training")
    state = physics.init(qpos, qvel)
    for _ in range(10):
        state = physics.step(state, jnp.ones((2, 1)))
    force = [c.name for c in task.observation].index("sensor push")
    expected = 3 * (1 - math.exp(-10 * task.world.control_step / 0.5))
    np.testing.assert_allclose(task.observe(state)[:, force], expected, rtol=0.01)


@pytest.mark.parametrize(
    ("time_step", "requested", "control_step"),
    [("0.01", None, 0.05), ("0.03", None, 0.06), ("0.07", None, 0.07), ("0.01", 0.03, 0.03)],
)
def test_the_control_step_is_a_multiple_of_the_time_step(write, time_step, requested, control_step):
    text = ARM.replace('timestep="0.01"', f'timestep="{time_step}"')
    task = arm(write, text, control_step=requested)
    assert task.world.control_step == pytest.approx(control_step)
    assert isinstance(task.world.substeps, int)


UNLIMITED = ARM.replace('limited="true" range="-2 0.01"', "")
NO_MESH = ARM.replace('<site name="tip"', '<geom type="mesh" mesh="m"/><site name="tip"')
NO_RANGE = ARM.replace(' ctrlrange="-1 1"', "")
DIVERGES = ARM.replace('damping="1"', 'stiffness="-1e12"')
STUCK = ARM.replace('damping="1"', 'damping="1e9"')
NO_ACTUATORS = ARM.replace("<motor", "<!--<motor").replace("</actuator>", "--></actuator>")


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (None, {}, r"mjcf = 'gone.xml' is not allowed: there is no such file"),
        (ARM, {"mjcf": "robot.txt"}, r"mjcf = 'robot.txt' .*must end in .xml"),
        ("<mujoco", {}, r"robot.xml does not compile, .*Line number=1"),
        ("<mujoco><foo/></mujoco>", {}, r"does not compile, .*unrecognized.*, Element 'foo'"),
        (NO_MESH, {}, r"does not compile, .*mesh 'm' not found"),
        (UNLIMITED, {}, r"does not compile, .*target 'elbow' has no range defined"),
        (NO_RANGE, {}, r"actuator 'push' of robot.xml has no range.*ctrlrange=.*inheritrange"),
        (NO_ACTUATORS, {}, r"robot.xml has no actuators"),
        (ARM.replace('"0.01" gravity', '"0" gravity'), {}, r"robot.xml has no time step"),
        (ARM, {"goal_site": "tup"}, r"goal_site = 'tup' is not .*no such site.* is tip\."),
        (ARM, {"goal_site": None, "goal_body": "loer"}, r"'loer' .*no such body.* is lower\."),
        (ARM, {"goal_site": None}, r"--goal-site or --goal-body: .*corner, tip, .*upper, lower\."),
        (ARM, {"goal_body": "lower"}, r"one part .*--goal-site or --goal-body"),
        (ARM, {"goal_site": "corner"}, r"goal_site = 'corner' .*fixed to the world"),
        (ARM, {"goal_box": "2,2,0,3,3,1"},
         # The reach of 1.5 m against the corner at hypot(2, 2), 1.33 m on.
         r"goal_box = '2,2,0,3,3,1' .*cannot reach it, tip stays 1.3 m away.* -1.5,-1.5,0.2,1.5,"),
        (ARM, {"goal_box": "0,0,0.2,0,0,0.2"}, r"cannot reach it, tip stays 0.9"),
        (ARM, {"goal_box": "1,2,3"}, r"goal_box = '1,2,3' is not allowed: a box is six numbers"),
        (ARM, {"goal_box": "a,b,c,d,e,f"}, r"a box is six numbers"),
        (ARM, {"goal_box": "0,0,0,1,nan,1"}, r"a box is six numbers"),
        (ARM, {"goal_box": "1,0,0,0,1,1"}, r"lowest corner must come first.* is 0,0,0,1,1,1\."),
        (ARM, {"goal_radius": 0.0}, r"goal_radius = 0.0 is not allowed: .*greater than 0"),
        (ARM, {"goal_radius": math.nan}, r"goal_radius = nan is not allowed"),
        (ARM, {"control_step": 0.025}, r"control_step = 0.025 .*time step of 0.01 s.* is 0.02\."),
        (ARM, {"control_step": -1.0}, r"control_step = -1.0 .* is 0.01\."),
        (ARM, {"control_step": math.inf}, r"control_step = inf is not allowed"),
        (DIVERGES, {}, r"diverges under random controls in every environment.*MUJOCO_LOG"),
        (ARM.replace("<actuator>", '<keyframe><key qpos="nan 0"/></keyframe><actuator>'), {},
         r"robot.xml has NaN where its key_qpos needs a number"),
        (ARM.replace('"0.01" gravity="', '"0.01" wind="nan 0 0" gravity="'), {},
         r"robot.xml has NaN where its wind needs a number"),
        (STUCK, {}, r"tip does not move under random controls.*--goal-box"),
    ],
)  # fmt: skip
def test_invalid_input_gives_one_sentence(write, text, options, sentence):
    file = "gone.xml" if text is None else write(text)
    with pytest.raises(UserError, match=sentence) as error:
        task_of(TaskChoice(**{"mjcf": file, "goal_site": "tip", **options}))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_name_that_is_not_utf8_is_told(write):
    file = Path(write(ARM))
    file.write_bytes(file.read_bytes().replace(b'name="tip"', b'name="t\xefp"'))
    with pytest.raises(UserError, match=r"robot.xml has the name b't\\xefp', .*as UTF-8"):
        task_of(TaskChoice(mjcf=file.name, goal_site="tip"))


@pytest.mark.parametrize("field", ["goal_site", "goal_body", "goal_box"])
def test_robot_options_need_mjcf(field):
    with pytest.raises(UserError, match=f"{field} = 'x' is not allowed: it needs a .*--mjcf"):
        task_of(TaskChoice(task="ant", **{field: "x"}))
