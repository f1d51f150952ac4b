"""The ant against Gymnasium's own, its resets, its limits and the walls around it."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import NativePhysics
from kilolayer.tasks.ant import Ant, GymAnt
from kilolayer.tasks.mazes import Maze


def model_of(package: str, path: str) -> mujoco.MjModel:
    """A package's own ant."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    return mujoco.MjModel.from_xml_path(str(Path(found.origin).parent / path))


@pytest.mark.parametrize(
    ("ant", "package", "path", "gear", "time_step", "integrator"),
    [
        (Ant, "ogbench", "locomaze/assets/ant.xml", 30, 0.02, mujoco.mjtIntegrator.mjINT_RK4),
        (
            GymAnt, "gymnasium", "envs/mujoco/assets/ant.xml", 150, 0.01,
            mujoco.mjtIntegrator.mjINT_EULER,
        ),
    ],
)  # fmt: skip
def test_body_actuators_and_contacts_match_gymnasiums_ant(
    ant, package, path, gear, time_step, integrator
):
    ours, theirs = ant().world.model, model_of(package, path)
    assert (ours.nq, ours.nv, ours.nu) == (theirs.nq, theirs.nv, theirs.nu) == (15, 14, 8)
    for field in ("body_mass", "body_inertia", "jnt_range", "dof_damping", "dof_armature"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-6)
    np.testing.assert_allclose(ours.actuator_gear, theirs.actuator_gear)
    np.testing.assert_array_equal(ours.actuator_gear[:, 0], gear)
    np.testing.assert_array_equal(ours.actuator_trnid, theirs.actuator_trnid)
    np.testing.assert_array_equal(ours.actuator_ctrlrange, theirs.actuator_ctrlrange)
    for field in ("geom_solimp", "geom_solref", "geom_friction", "geom_margin", "geom_condim"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-12)
    assert ours.opt.timestep == theirs.opt.timestep == time_step
    # Theirs both ask for Runge-Kutta.
    assert ours.opt.integrator == int(integrator)


def test_episodes_start_standing_with_the_stated_noise():
    qpos, qvel = map(
        np.asarray, Ant("u").reset(jax.random.key(0), jnp.zeros((2000, 2)), "training")
    )
    pose = np.array([4, 4, 0.75, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1])
    noise = np.delete(qpos - pose, slice(3, 7), axis=1)
    assert 0.099 < noise.max() <= 0.1 + 1e-6
    assert -0.1 - 1e-6 <= noise.min() < -0.099
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, rtol=1e-5)
    assert np.abs(qpos[:, 4:7]).max() < 0.12
    assert qvel.std() == pytest.approx(0.1, rel=0.03)
    assert np.abs(qvel.mean()) < 0.003


def test_passive_ant_lands_on_its_feet():
    """Legs that start inside the floor would throw it into the air or onto its back."""
    task = Ant()
    physics = NativePhysics(task.world, 256, threads=1)
    state = physics.init(*task.reset(jax.random.key(0), jnp.zeros((256, 2)), "training"))
    step = jax.jit(physics.step)
    ended = np.zeros(256, bool)
    for _ in range(50):
        state = step(state, jnp.zeros((256, 8)))
        ended |= np.asarray(task.terminated(state))
    x, y = np.asarray(state.qpos)[:, 4:6].T
    assert ended.sum() == 0
    assert np.all(1 - 2 * (np.square(x) + np.square(y)) > 0.8)


def state_at(qpos, qvel) -> PhysicsState:
    return PhysicsState(qpos, qvel, {}, jnp.zeros((len(qpos), 0), jnp.uint32))


@pytest.mark.parametrize(
    ("height", "ends"), [(0.19, True), (0.21, False), (0.99, False), (1.01, True)]
)
def test_only_an_episode_of_the_gym_ant_ends_when_the_torso_leaves_its_heights(height, ends):
    qpos = jnp.zeros((1, 15)).at[0, 2].set(height)
    state = state_at(qpos, jnp.zeros((1, 14)))
    assert bool(GymAnt().terminated(state)[0]) is ends
    assert not bool(Ant().terminated(state)[0])


def test_the_observation_is_all_of_position_and_velocity(normal):
    qpos, qvel = normal(0, 3, 15), normal(1, 3, 14)
    task, state = Ant(), state_at(qpos, qvel)
    np.testing.assert_array_equal(task.observe(state), np.concatenate([qpos, qvel], 1))
    np.testing.assert_array_equal(task.achieved_goal(state), qpos[:, :2])
    names = [coordinate.name for coordinate in task.observation]
    assert names[:7] == ["x", "y", "z", *(f"quaternion {axis}" for axis in "wxyz")]
    assert names[15:18] == [f"{axis} velocity" for axis in "xyz"]


def test_joints_are_named_in_the_order_of_the_model():
    model = Ant().world.model
    joints = [
        model.joint(index).name.replace("_hip", " hip").replace("_ankle", " ankle")
        for index in range(1, model.njnt)
    ]
    assert [coordinate.name for coordinate in Ant().observation[7:15]] == joints


def test_open_goals_lie_on_a_circle_of_ten_metres():
    goals = np.asarray(Ant().sample_goal(jax.random.key(0), 1000, "evaluation"))
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 10.0, rtol=1e-5)
    quadrants = np.bincount(2 * (goals[:, 0] > 0) + (goals[:, 1] > 0))
    assert quadrants.min() > 200
    assert Ant().splits == ("evaluation",)


@pytest.mark.parametrize(("ant", "seconds"), [(Ant, 0.1), (GymAnt, 0.05)])
def test_a_control_step_takes_five_substeps(ant, seconds):
    assert ant().world.substeps == 5
    assert ant().world.control_step == pytest.approx(seconds)


@pytest.mark.parametrize("layout", ["u", "u4", "big"])
def test_walls_stand_where_the_maze_says(layout):
    model = Ant(layout).world.model
    boxes = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_BOX))
    places = np.concatenate([model.geom_pos[boxes, :2], model.geom_size[boxes, :2]], axis=1)
    np.testing.assert_allclose(places, np.array(Maze(layout, 4.0).wall_rectangles))
    # Half a cell high, standing on the floor.
    np.testing.assert_allclose(model.geom_pos[boxes, 2] + model.geom_size[boxes, 2], 2.0)
    np.testing.assert_allclose(model.geom_pos[boxes, 2], model.geom_size[boxes, 2])


def test_walls_stop_the_ant_and_corridors_do_not():
    """Thrown at 10 m/s in four directions from the start of u, whose corridor runs along +y."""
    task = Ant("u")
    physics = NativePhysics(task.world, 4, threads=1)
    qpos = jnp.tile(task.reset(jax.random.key(0), jnp.zeros((1, 2)), "training")[0], (4, 1))
    throw = jnp.array([[-10.0, 0.0], [10.0, 0.0], [0.0, -10.0], [0.0, 10.0]])
    state = physics.init(qpos, jnp.zeros((4, 14)).at[:, :2].set(throw))
    path = []
    for _ in range(30):
        state = physics.step(state, jnp.zeros((4, 8)))
        path.append(np.asarray(state.qpos[:, :2]))
    path = np.array(path)
    # The start cell spans 2 to 6 m; the torso is a ball of 0.25 m.
    assert path[:, 0, 0].min() > 2.2
    assert path[:, 1, 0].max() < 5.8
    assert path[:, 2, 1].min() > 2.2
    assert path[:, 3, 1].max() > 6.5
