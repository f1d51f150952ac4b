"""The arm against an independent forward kinematics, and what it can do with scripted actions."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import NativePhysics
from kilolayer.tasks import arm
from kilolayer.tasks.base import is_success
from kilolayer.tasks.registry import make_task

LENGTHS = {"reach": 50, "grasp": 50, "push_easy": 50, "push_hard": 80, "binpick_easy": 80,
           "binpick_hard": 80}  # fmt: skip
START = np.array([1.571, 0.742, 0, -1.571, 0, 3.054, 1.449])
COMMANDED = [0, 1, 3, 5]
TARGETS = np.array([[0.3491, 2.7925], [0, 1.48353], [-3.0718, -0.0698], [2.3562, 3.7525]])
OPEN, CLOSE = -1, 1
SIDE = np.array([0.0375, 0, 0])

# Of each link in the one before, then of the hand: position (m) and the quarter turns about x
# that bring the parent's axes to its own.
FRAMES = (
    ((0, 0, 0.333), 0), ((0, 0, 0), -1), ((0, -0.316, 0), 1), ((0.0825, 0, 0), 1),
    ((-0.0825, 0.384, 0), -1), ((0, 0, 0), 1), ((0.088, 0, 0), 1),
)  # fmt: skip


def frame(position, about_x, about_z) -> np.ndarray:
    """Homogeneous matrices `[..., 4, 4]`: a place, a turn about x, then turns about the new z."""
    about_z = np.asarray(about_z, float)
    cosine, sine = np.cos(about_z), np.sin(about_z)
    matrix = np.broadcast_to(np.eye(4), (*about_z.shape, 4, 4)).copy()
    matrix[..., 0, 0], matrix[..., 0, 1] = cosine, -sine
    matrix[..., 1, 0], matrix[..., 1, 1] = sine, cosine
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(about_x), -np.sin(about_x)], [np.sin(about_x), np.cos(about_x)]]
    tilt[:3, 3] = position
    return tilt @ matrix


def hand_frame(joints: np.ndarray) -> np.ndarray:
    """The hand's frame at `joints [..., 7]` in rad."""
    matrix = np.eye(4)
    for index, (position, quarters) in enumerate(FRAMES):
        matrix = matrix @ frame(position, quarters * np.pi / 2, joints[..., index])
    return matrix @ frame((0, 0, 0.107), 0, -np.pi / 4)


def on_hand(joints: np.ndarray, place: tuple) -> np.ndarray:
    return (hand_frame(joints) @ np.array([*place, 1.0]))[..., :3]


def action(joints, gripper=None) -> np.ndarray:
    """The action that commands angles of joints 1, 2, 4 and 6, in rad."""
    low, high = TARGETS.T
    unit = 2 * (np.asarray(joints) - low) / (high - low) - 1
    return unit if gripper is None else np.append(unit, gripper)


def begin(name: str, cube=None, envs: int = 1) -> tuple:
    """Task, engine and state, with the cube at `cube (x, y)` if given."""
    task = make_task(f"arm_{name}")
    goal = task.sample_goal(jax.random.key(0), envs, "evaluation")
    qpos, qvel = task.reset(jax.random.key(1), goal, "evaluation")
    if cube is not None:
        qpos = qpos.at[:, 9:11].set(jnp.array(cube))
    physics = NativePhysics(task.world, envs, threads=1)
    return task, physics, physics.init(qpos, qvel)


def play(physics, state, script) -> list[PhysicsState]:
    """States after each control step of (commanded joints, gripper, control steps)."""
    states = []
    for joints, gripper, steps in script:
        for _ in range(steps):
            state = physics.step(state, jnp.asarray(action(joints, gripper))[None])
            states.append(state)
    return states


def test_frames_match_the_published_ones():
    model = make_task("arm_push_easy").world.model
    low, high = model.jnt_range[:7].T
    data, generator = mujoco.MjData(model), np.random.default_rng(0)
    for joints in [START, *generator.uniform(low, high, (20, 7))]:
        left, right = generator.uniform(0, 0.04, 2)
        data.qpos[:9] = [*joints, left, right]
        mujoco.mj_forward(model, data)
        height = 0.1034
        np.testing.assert_allclose(data.sensordata[:3], on_hand(joints, (0, 0, height)), atol=1e-6)
        np.testing.assert_allclose(
            data.sensordata[6:9], on_hand(joints, (0, left, height)), atol=1e-6
        )
        np.testing.assert_allclose(
            data.sensordata[9:12], on_hand(joints, (0, -right, height)), atol=1e-6
        )


def test_masses_ranges_and_servos_match_the_documentation():
    model = make_task("arm_grasp").world.model
    masses = [4.97, 0.647, 3.23, 3.59, 1.23, 1.67, 0.736]
    np.testing.assert_allclose([model.body(f"link{n}").mass[0] for n in range(1, 8)], masses)
    assert model.body_mass.sum() == pytest.approx(sum(masses) + 0.73 + 2 * 0.015 + 0.216)
    assert model.body_inertia[1:].min() > 1e-6
    # Principal inertias of a real body obey the triangle inequality.
    assert (2 * model.body_inertia.max(1) <= model.body_inertia.sum(1) + 1e-12).all()
    turn = [-2.8973, 2.8973]
    limits = [turn, [-1.7628, 1.7628], turn, [-3.0718, -0.0698], turn, [-0.0175, 3.7525], turn]
    np.testing.assert_allclose(model.jnt_range[:9], [*limits, [0, 0.04], [0, 0.04]])
    gains = np.array([4500, 4500, 2000, 2000, 1000, 1000, 1000])
    np.testing.assert_allclose(model.actuator_gainprm[:7, 0], gains)
    np.testing.assert_allclose(model.actuator_biasprm[:7, 1:3], np.stack([-gains, -gains / 10], 1))
    np.testing.assert_allclose(model.actuator_forcerange[:7, 1], [87] * 4 + [12] * 3)
    assert model.opt.timestep == pytest.approx(0.002)
    assert make_task("arm_grasp").world.substeps == 25


@pytest.mark.parametrize("name", ["reach", "push_easy"])
def test_actions_command_four_joints_and_the_others_hold(name):
    world = make_task(f"arm_{name}").world
    gripper = [] if name == "reach" else [0.25]
    unit = np.array([[-1.0, -1, -1, -1, *gripper], [1, 1, 1, 1, *gripper], [0, 0, 0, 0, *gripper]])
    controls = world.controls(unit)
    np.testing.assert_allclose(controls[:, COMMANDED], [*TARGETS.T, TARGETS.mean(1)])
    np.testing.assert_allclose(controls[:, [2, 4, 6]], [[0, 0, 1.4487]] * 3)
    np.testing.assert_allclose(controls[:, 7:], [gripper] * 3)


def test_the_arm_holds_its_start_against_gravity():
    task, physics, state = begin("push_easy")
    first = task.observe(state)[0]
    last = play(physics, state, [(START[COMMANDED], OPEN, 40)])[-1]
    np.testing.assert_allclose(task.observe(last)[0, 3:10], first[3:10], atol=0.01)
    np.testing.assert_allclose(task.observe(last)[0, 10:13], first[10:13], atol=0.015)
    assert np.abs(last.qvel).max() < 1e-4
    np.testing.assert_allclose(last.qpos[0, 9:12], state.qpos[0, 9:12], atol=1e-4)


def test_the_observed_velocity_is_that_of_the_end_effector():
    task, physics, state = begin("reach")
    target = jnp.asarray(action(START[COMMANDED] + [0.5, 0, -0.4, 0]))[None]
    for _ in range(4):
        state = physics.step(state, target)
    places = []
    for seconds in (-1e-5, 1e-5):
        joints = np.asarray(state.qpos[0], np.float64) + seconds * np.asarray(state.qvel[0])
        places.append(on_hand(joints, (0, 0, 0.1034)))
    velocity = (places[1] - places[0]) / 2e-5
    assert np.linalg.norm(velocity) > 0.1
    np.testing.assert_allclose(task.observe(state)[0, 10:13], velocity, atol=1e-4)


def postures(counts=(25, 41, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Joints `[postures, 7]` over the ranges of 2, 4 and 6 with joint 1 at 0, and where they bring
    the end effector. Joint 1 turns the plane that the others move in."""
    axes = [
        np.linspace(*TARGETS[index], count) for index, count in zip((1, 2, 3), counts, strict=True)
    ]
    second, fourth, sixth = np.meshgrid(*axes)
    zero = np.zeros_like(second)
    joints = np.stack([zero, second, zero, fourth, zero, sixth, zero + 1.4487], -1).reshape(-1, 7)
    places = on_hand(joints, (0, 0, 0.1034))
    np.testing.assert_allclose(places[:, 1], 0, atol=1e-9)
    return joints, places


def distances_to(goals: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How far each place is from each goal once joint 1 has turned to it, `[goals, places]`."""
    angle = np.arctan2(goals[:, 1], goals[:, 0])
    assert (TARGETS[0, 0] < angle).all()
    assert (angle < TARGETS[0, 1]).all()
    radius = np.hypot(goals[:, 0], goals[:, 1])
    return np.hypot(places[:, 0] - radius[:, None], places[:, 2] - goals[:, 2:])


def goals_of(name: str, count: int = 400) -> np.ndarray:
    return np.asarray(make_task(name).sample_goal(jax.random.key(0), count, "evaluation"))


def test_share_of_reachable_goals_of_reach():
    distance = distances_to(goals_of("arm_reach"), postures()[1]).min(1)
    assert np.mean(distance < 0.1) == pytest.approx(0.76, abs=0.05)
    assert distance.max() < 0.3


def test_all_goals_of_the_easy_reach_lie_in_the_box_and_within_reach():
    goals, (low, high) = goals_of("arm_reach_easy"), make_task("arm_reach").goal_box
    assert (low <= goals).all()
    assert (goals <= high).all()
    assert distances_to(goals, postures((40, 60, 25))[1]).min(1).max() < 0.03
    # As many lie near the rim of what can be reached as in its middle.
    assert np.ptp(goals, axis=0).min() > 0.35


def test_a_constant_command_brings_the_arm_to_a_goal_of_the_easy_reach():
    task, physics, state = begin("reach_easy", envs=12)
    goals = goals_of("arm_reach_easy", 12)
    joints, places = postures((40, 60, 25))
    nearest = joints[distances_to(goals, places).argmin(1)]
    nearest[:, 0] = np.arctan2(goals[:, 1], goals[:, 0])
    command = jnp.asarray(action(nearest[:, COMMANDED]))
    for _ in range(task.episode_length):
        state = physics.step(state, command)
    assert np.all(is_success(task, task.achieved_goal(state), goals))


# Angles of joints 1, 2, 4 and 6 with the hand upright over a place.
OVER_LEFT, AT_LEFT, UP_LEFT = (
    [2.034, 0.558, -1.72, 2.356], [2.034, 0.776, -1.698, 2.474], [2.034, 0.501, -1.701, 2.356],
)  # fmt: skip
UP_RIGHT, LOW_RIGHT = [1.107, 0.501, -1.701, 2.356], [1.107, 0.696, -1.718, 2.415]


def test_four_joints_and_a_gripper_carry_the_cube_from_bin_to_bin():
    task, physics, state = begin("binpick_hard", cube=(-0.3, 0.6))
    script = [(OVER_LEFT, OPEN, 12), (AT_LEFT, OPEN, 14), (AT_LEFT, CLOSE, 8), (UP_LEFT, CLOSE, 12),
              (UP_RIGHT, CLOSE, 16), (LOW_RIGHT, CLOSE, 8), (LOW_RIGHT, OPEN, 6)]  # fmt: skip
    states = play(physics, state, script)
    assert len(states) <= task.episode_length
    goal = np.array([0.3, 0.6, 0.03])
    achieved = task.achieved_goal(states[-1])[0]
    assert float(task.distance(achieved, goal)) < task.goal.hard_radius
    qpos = np.stack([np.asarray(state.qpos) for state in states])
    measures = task.behaviour(qpos, np.ones(qpos.shape[:2], bool))
    assert measures["cube_height"] > 0.1
    assert measures["cube_travel"] > 0.6
    # The hand is told to close for 44 of 76 steps, of which the fingers need one or two.
    assert 40 / 76 < measures["grasp_share"] < 44.5 / 76


@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_struck_cube_slides_as_friction_predicts(speed):
    """v^2 / (2 mu g) with friction 1, less what the rocking takes: centimetres, not metres."""
    _, physics, state = begin("push_easy", cube=(0.5, -0.3))
    moving = jnp.zeros_like(state.qvel).at[:, 9].set(speed)
    state = physics.init(state.qpos, moving)
    last = play(physics, state, [(START[COMMANDED], OPEN, 20)])[-1]
    distance = np.asarray(last.qpos - state.qpos)[0, 9:12]
    assert distance[0] == pytest.approx(speed**2 / (2 * 9.81), rel=0.3)
    np.testing.assert_allclose(distance[1:], 0, atol=2e-3)
    assert np.abs(last.qvel[0, 9:12]).max() < 1e-3


def test_a_closed_hand_pushes_the_cube_along_the_table():
    _, physics, state = begin("push_easy", cube=(-0.1, 0.6))
    sweep = [([1.893, 0.454, -1.893, 2.356], CLOSE, 10), ([1.893, 0.664, -1.878, 2.542], CLOSE, 8),
             ([1.488, 0.598, -2.004, 2.603], CLOSE, 20)]  # fmt: skip
    cube = np.array([state.qpos[0, 9:12] for state in play(physics, state, sweep)])
    np.testing.assert_allclose(cube[17, :2], [-0.1, 0.6], atol=0.01)
    assert cube[-1, 0] - cube[17, 0] > 0.1
    # It may tilt, never leave the table: on an edge its centre is 0.042 m high.
    assert cube[:, 2].min() > 0.028
    assert cube[:, 2].max() < 0.05


@pytest.mark.parametrize("name", ["reach", "push_hard", "binpick_easy"])
def test_extreme_actions_leave_everything_finite_and_on_the_table(name):
    task, physics, state = begin(name, envs=24)
    generator = np.random.default_rng(0)
    for step in range(100):
        if step % 3 == 0:
            actions = jnp.asarray(generator.choice([-1.0, 1.0], (24, task.action_dim)))
        state = physics.step(state, actions)
        assert np.isfinite(state.qpos).all()
        assert np.isfinite(state.qvel).all()
        assert np.abs(state.qvel[:, :7]).max() < 40
        if task.action_dim == 5:
            assert np.min(state.qpos[:, 11]) > 0.02
    assert np.abs(task.observe(state)).max() < 20


def test_a_cube_pressed_against_its_bin_stays_inside():
    """Gripped in the left bin, then driven at the other without being lifted."""
    _, physics, state = begin("binpick_hard", cube=(-0.3, 0.6))
    across = [1.107, 0.776, -1.698, 2.474]
    script = [(OVER_LEFT, OPEN, 12), (AT_LEFT, OPEN, 14), (AT_LEFT, CLOSE, 8), (across, CLOSE, 30)]
    cube = np.array([state.qpos[0, 9:12] for state in play(physics, state, script)])
    assert cube[:, 0].max() > -0.2
    assert cube[:, 0].max() < -0.105 - 0.02
    assert np.abs(cube[:, 2] - 0.03).max() < 0.02


@pytest.mark.parametrize("name", LENGTHS)
def test_observations_and_episode_length_of_the_arm(name):
    task, _, state = begin(name, envs=3)
    counts = {"reach": (13, 4, 3), "grasp": (23, 5, 7)}.get(name, (17, 5, 3))
    assert (len(task.observation), task.action_dim, task.goal.dim) == counts
    assert task.name == f"arm_{name}"
    assert task.episode_length == LENGTHS[name]
    assert not np.any(task.terminated(state))
    row = {c.name: np.asarray(task.observe(state))[:, i] for i, c in enumerate(task.observation)}
    assert len(row) == counts[0]
    np.testing.assert_allclose(row["joint 6"], 3.054, rtol=1e-6)
    tip = on_hand(START, (0, 0, 0.1034))
    np.testing.assert_allclose(row["end effector y"], tip[1], atol=1e-6)
    np.testing.assert_allclose(row["end effector z velocity"], 0, atol=1e-6)
    if name == "reach":
        np.testing.assert_allclose(task.achieved_goal(state)[1], tip, atol=1e-6)
        return
    np.testing.assert_allclose(row["cube x"], state.qpos[:, 9])
    np.testing.assert_allclose(row["finger gap"], 0.08)
    if name == "grasp":
        tips = [row[f"{side} fingertip {axis}"] for side in ("left", "right") for axis in "xyz"]
        np.testing.assert_array_equal(task.achieved_goal(state)[:, :6].T, tips)
        left = on_hand(START, (0, 0.04, 0.1034))
        np.testing.assert_allclose(task.achieved_goal(state)[0, :3], left, atol=1e-6)
    else:
        np.testing.assert_array_equal(task.achieved_goal(state), state.qpos[:, 9:12])


# Corners in x and y of where cubes start and where goals lie.
RANGES = {
    "push_easy": ((-0.2, 0.5), (0, 0.7), (0, 0.5), (0.2, 0.7)),
    "push_hard": ((-0.5, 0.4), (0, 0.9), (0, 0.4), (0.5, 0.9)),
    "binpick_easy": ((-0.24, 0.51), (-0.06, 0.69), (0.08, 0.51), (0.26, 0.69)),
    "binpick_hard": ((-0.45, 0.45), (-0.15, 0.75), (0.15, 0.45), (0.45, 0.75)),
    "grasp": ((-0.3, 0.3), (0.3, 0.9)),
}


@pytest.mark.parametrize("name", RANGES)
def test_cubes_and_goals_fill_the_stated_ranges(name):
    task = make_task(f"arm_{name}")
    goal = task.sample_goal(jax.random.key(0), 2000, "evaluation")
    qpos, qvel = map(np.asarray, task.reset(jax.random.key(1), goal, "evaluation"))
    assert not qvel.any()
    np.testing.assert_allclose(qpos[:, :7], np.tile(START, (2000, 1)), rtol=1e-6)
    np.testing.assert_allclose(qpos[:, 11], 0.03)
    goal = np.asarray(goal)
    places = [qpos[:, 9:11]] if name == "grasp" else [qpos[:, 9:11], goal[:, :2]]
    np.testing.assert_allclose(goal[:, 2], 0.03, rtol=1e-6)
    corners = RANGES[name]
    for place, low, high in zip(places, corners[::2], corners[1::2], strict=True):
        np.testing.assert_allclose(place.min(0), low, atol=0.002)
        np.testing.assert_allclose(place.max(0), high, atol=0.002)


@pytest.mark.parametrize("name", ["binpick_easy", "binpick_hard"])
def test_no_cube_starts_inside_a_wall(name):
    task = make_task(f"arm_{name}")
    model, data = task.world.model, mujoco.MjData(task.world.model)
    (left, bottom), (right, top) = RANGES[name][:2]
    for corner in ((left, bottom), (left, top), (right, bottom), (right, top)):
        data.qpos[:] = np.asarray(task.reset(jax.random.key(0), jnp.zeros((1, 3)), "training")[0])
        data.qpos[9:11] = corner
        mujoco.mj_forward(model, data)
        touched = {tuple(sorted(pair)) for pair in data.contact.geom.tolist()}
        assert len(touched) == 1  # the cube and the table alone


def test_grasp_goal_surrounds_and_follows_the_cube():
    task, _, state = begin("grasp", envs=5)
    goal = task.sample_goal(jax.random.key(0), 5, "evaluation")
    cube = np.asarray(state.qpos[:, 9:12])
    np.testing.assert_allclose(task.current_goal(state, goal), goal, atol=1e-6)
    np.testing.assert_allclose(goal[:, :3], cube + SIDE, atol=1e-6)
    np.testing.assert_allclose(goal[:, 3:6], cube - SIDE, atol=1e-6)
    np.testing.assert_allclose(goal[:, 6], 0.075, atol=1e-6)
    moved = PhysicsState(
        state.qpos.at[:, 9:12].add(jnp.array([0.1, 0.2, 0.3])), state.qvel, {}, state.engine
    )
    shift = np.tile([0.1, 0.2, 0.3], 2)
    np.testing.assert_allclose(
        task.current_goal(moved, goal)[:, :6], goal[:, :6] + shift, atol=1e-6
    )
    np.testing.assert_allclose(task.goal_points(np.asarray(goal[0]))[1], goal[0, 3:6])


def test_a_grasp_is_reached_if_midpoint_and_gap_are_close():
    task = make_task("arm_grasp")
    goal = np.array([0.0375, 0.6, 0.03, -0.0375, 0.6, 0.03, 0.075])
    turned = np.array([0, 0.6375, 0.03, 0, 0.5625, 0.03, 0.075])  # same midpoint
    aside = goal + np.array([0.03, 0.04, 0, 0.03, 0.04, 0, 0])
    closed = goal - np.array([0, 0, 0, 0, 0, 0, 0.06])
    achieved = np.stack([goal, turned, aside, closed])
    distance = task.distance(jnp.asarray(achieved), jnp.asarray(goal))
    np.testing.assert_allclose(distance, [0, 0, 0.05, 0.06], atol=1e-6)
    assert is_success(task, achieved - [0.001, 0, 0, 0.001, 0, 0, 0], goal).tolist() == [
        True, True, True, False,
    ]  # fmt: skip


def test_cube_behaviour_labels_match_hand_computation():
    """Two environments: one cube is held, rises by 0.1 m and sinks again; the other lies still."""
    held = on_hand(START, (0, 0, 0.1034))
    qpos = np.zeros((3, 2, 16))
    qpos[..., :7], qpos[..., 12] = START, 1
    qpos[:, 0, 7:9], qpos[:, 1, 7:9] = 0.03, 0.04
    qpos[:, :, 9:12] = [0, 0.6, 0.03]
    qpos[1, 0, 9:12] = held
    measures = arm.cube_measures(make_task("arm_grasp").world.model, qpos)
    distance = 2 * np.linalg.norm(held - [0, 0.6, 0.03])
    assert measures["cube_travel"] == pytest.approx(distance / 2)
    assert measures["cube_height"] == pytest.approx((held[2] - 0.03) / 2)
    assert measures["grasp_share"] == pytest.approx(1 / 6)
