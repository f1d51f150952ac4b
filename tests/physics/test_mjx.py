"""MJX beside the native engine: the same environments in float32 instead of float64."""

import copy
import dataclasses
import os
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.physics import mjx as mjx_module
from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import build_physics
from kilolayer.physics.config import PhysicsConfig
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.physics.mjx import MjxPhysics
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.tasks.registry import TASKS, make_task

ENVS = 3
MUJOCO_TASKS = [name for name in TASKS if isinstance(make_task(name).world, MujocoWorld)]
# Tasks that MJX cannot express, and what it says of them.
REFUSED: dict[str, str] = {}

# By how a task's name begins: seconds, and by how much the engines may differ until then, positions
# in m and rad; velocities in m/s and rad/s, and observations.
BOUNDS = {
    # Found: up to 1e-4 and 1e-3, float32's rounding grown over 10 to 50 substeps. A wrong control
    # range or a missing contact is a hundred times as much.
    "": (0.2, 5e-4, 1e-2),
    # Where a shin stands more steeply than 60 degrees, MJX aligns its contact with the floor along
    # the world's axes, native along the shin. Friction is a pyramid there, so it pushes elsewhere.
    # Found: 0.013 and 0.9. With a cone the engines agree, see below.
    "ant": (0.1, 0.05, 2.0),
    "gym_ant": (0.1, 0.05, 2.0),
    # Until the arm hits something.
    "arm": (0.1, 5e-4, 1e-2),
    # A finger hits a bin's edge at once. The engines agree on the normal of two edges that touch,
    # not on the point and the depth. Found: 0.0035 and 0.28.
    "arm_binpick_hard": (0.1, 0.02, 1.0),
}


# Each task takes 5 to 25 seconds of processor time to compile: a free body that pushes another, a
# planar body, an arm without contacts. `nox` steps them all.
STEPPED = ("ant_ball", "half_cheetah", "reacher")
EVERY_TASK = bool(os.environ.get("KILOLAYER_EVERY_TASK"))


def stepped_tasks() -> list[str]:
    return [name for name in (MUJOCO_TASKS if EVERY_TASK else STEPPED) if name not in REFUSED]


@pytest.mark.parametrize("name", MUJOCO_TASKS)
def test_every_task_is_supported_or_refused_by_name(name):
    world = make_task(name).world
    if name not in REFUSED:
        MjxPhysics(world, ENVS)
        return
    with pytest.raises(UserError, match=REFUSED[name]) as error:
        MjxPhysics(world, ENVS)
    assert "use --physics native" in str(error.value)


def assert_alike(name: str, world: MujocoWorld, bounds: tuple[float, float, float]) -> None:
    """From the same starts under the same random controls, at the end of each control step."""
    seconds, position_bound, velocity_bound = bounds
    task = make_task(name)
    mjx, native = MjxPhysics(world, ENVS), NativePhysics(world, ENVS)
    goal = task.sample_goal(jax.random.key(0), ENVS, "training")
    start = task.reset(jax.random.key(1), goal, "training")
    shape = (round(seconds / world.control_step), ENVS, task.action_dim)
    controls = jax.random.uniform(jax.random.key(2), shape, minval=-1.0)

    @jax.jit
    def play(controls):
        def step(state, control):
            state = mjx.step(state, control)
            return state, (state.qpos, state.qvel, task.observe(state))

        return jax.lax.scan(step, blank, controls)[1]

    state = native.init(*start)
    # The start's derived fields are not looked at; so they need not be traced.
    blank = MjxPhysics(dataclasses.replace(world, fields=()), ENVS).init(*start)
    blank = dataclasses.replace(blank, fields=jax.tree.map(jnp.zeros_like, state.fields))
    for control, qpos, qvel, observation in zip(controls, *play(controls), strict=True):
        state = native.step(state, control)
        np.testing.assert_allclose(qpos, state.qpos, rtol=0, atol=position_bound)
        np.testing.assert_allclose(qvel, state.qvel, rtol=0, atol=velocity_bound)
        expected = task.observe(state)
        np.testing.assert_allclose(observation, expected, rtol=velocity_bound, atol=velocity_bound)


@pytest.mark.slow
@pytest.mark.parametrize("name", stepped_tasks())
def test_engines_agree_on_a_task(name):
    beginning = max(filter(name.startswith, BOUNDS), key=len)
    assert_alike(name, make_task(name).world, BOUNDS[beginning])


@pytest.mark.skipif(not EVERY_TASK, reason="25 s to compile; KILOLAYER_EVERY_TASK=1 runs it")
def test_ant_with_isotropic_friction_agrees_between_engines():
    """What the engines differ in otherwise is how a pyramid of friction lies, and nothing else."""
    world = make_task("ant").world
    model = copy.copy(world.model)
    model.opt.cone = int(mujoco.mjtCone.mjCONE_ELLIPTIC)
    assert_alike("ant", dataclasses.replace(world, model=model), (0.1, *BOUNDS[""][1:]))


@pytest.fixture(scope="module")
def physics(scene) -> MjxPhysics:
    return MjxPhysics(scene, ENVS)


def start(world: MujocoWorld, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(seed)
    qpos = np.tile(world.model.qpos0, (ENVS, 1))
    qpos[:, :3] += generator.uniform(-0.2, 0.2, (ENVS, 3))
    qpos[:, 7:] += generator.uniform(-0.5, 0.5, (ENVS, 2))
    qvel = generator.normal(size=(ENVS, world.model.nv))
    return jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32)


def play(physics, state: PhysicsState, steps: int) -> PhysicsState:
    generator = np.random.default_rng(9)
    for _ in range(steps):
        control = generator.uniform(-1, 1, (ENVS, 2))
        state = physics.step(state, jnp.asarray(control, jnp.float32))
    return state


@pytest.mark.slow
def test_equal_inputs_give_equal_outputs(physics, scene, assert_trees_equal):
    state = physics.init(*start(scene))
    first = play(physics, state, 1)
    moved = play(physics, first, 7)
    assert not np.array_equal(moved.qpos, first.qpos)
    assert_trees_equal(play(physics, state, 1), first)
    assert_trees_equal(physics.init(*start(scene)), state)


def test_rollout_continues_from_a_saved_state(physics, scene, assert_trees_equal):
    """Contacts and warm starts included: the box lies on the plane by then."""
    middle = play(physics, physics.init(*start(scene)), 40)
    assert float(middle.qpos[:, 2].max()) < 0.3
    assert np.abs(middle.engine["qacc_warmstart"]).max() > 0
    saved = jax.tree.map(lambda leaf: np.array(leaf, copy=True), middle)
    unbroken = play(physics, middle, 20)
    assert_trees_equal(play(physics, jax.tree.map(jnp.asarray, saved), 20), unbroken)


def test_reset_changes_only_the_selected_environments(physics, scene, assert_trees_equal):
    state = play(physics, physics.init(*start(scene)), 10)
    qpos, qvel = start(scene, seed=1)
    mask = np.array([True, False, True])
    after, fresh = physics.reset(state, jnp.asarray(mask), qpos, qvel), physics.init(qpos, qvel)
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[~mask], s) for s in (after, state)))
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[mask], s) for s in (after, fresh)))


def test_derived_fields_are_current_after_init_step_and_reset(physics, scene):
    data = mujoco.MjData(scene.model)
    started = physics.init(*start(scene))
    stepped = play(physics, started, 3)
    mask = jnp.array([True, False, True])
    for state in (started, stepped, physics.reset(stepped, mask, *start(scene, seed=1))):
        for world in range(ENVS):
            data.qpos[:], data.qvel[:] = state.qpos[world], state.qvel[world]
            mujoco.mj_forward(scene.model, data)
            for name in ("xpos", "cvel", "sensordata"):
                found, expected = state.fields[name][world], getattr(data, name)
                np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def test_divergence_is_visible_and_isolated(physics, scene):
    qpos, qvel = start(scene)
    lost = play(physics, physics.init(qpos, qvel.at[1, 0].set(1e30)), 5)
    calm = play(physics, physics.init(qpos, qvel), 5)
    assert not np.isfinite(lost.qpos[1]).all()
    np.testing.assert_array_equal(lost.qpos[::2], calm.qpos[::2])


@pytest.mark.skipif(find_spec("warp") is None, reason="needs the extra warp: pip install warp-lang")
def test_warp_steps_a_scene_as_jax_does(physics, scene):
    """Until the box hits the plane. Runs without a GPU too, where Warp compiles for a minute."""
    warp = MjxPhysics(scene, ENVS, "warp")
    mask = jnp.array([True, False, True])
    expected, found = (
        engine.reset(play(engine, engine.init(*start(scene)), 4), mask, *start(scene, seed=1))
        for engine in (physics, warp)
    )
    np.testing.assert_allclose(found.qpos, expected.qpos, atol=1e-4)
    np.testing.assert_allclose(found.qvel, expected.qvel, atol=1e-3)
    for name, array in expected.fields.items():
        np.testing.assert_allclose(found.fields[name], array, atol=1e-3, err_msg=name)


def test_unsupported_mjx_features_are_named():
    scene = """
        <mujoco><worldbody>
          <geom type="box" size="1 1 1"/>
          <body pos="0 0 2"><freejoint/><geom type="cylinder" size="0.1 0.2"/></body>
        </worldbody></mujoco>"""
    world = MujocoWorld.compile(mujoco.MjSpec.from_string(scene), 0.02)
    with pytest.raises(UserError, match=r"CYLINDER.*BOX.*use --physics native") as error:
        MjxPhysics(world, ENVS)
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_missing_extra_is_named(impl, scene, monkeypatch):
    extra = "mujoco.mjx" if impl == "jax" else "warp"
    monkeypatch.setattr(mjx_module, "find_spec", lambda name: None if name == extra else name)
    package = "mjx" if impl == "jax" else "warp"
    with pytest.raises(UserError, match=rf"pip install 'kilolayer\[{package}\]'.*physics native"):
        build_physics(scene, ENVS, PhysicsConfig(physics="mjx", mjx_impl=impl))


def test_requested_engine_is_built(scene):
    assert isinstance(build_physics(scene, ENVS, PhysicsConfig(physics="mjx")), MjxPhysics)
    assert isinstance(build_physics(scene, ENVS, PhysicsConfig(physics="native")), NativePhysics)
    assert isinstance(build_physics(scene, ENVS, PhysicsConfig(physics="auto")), NativePhysics)
    corridor = PointWorld(walls=((True,) * 3, (True, False, True), (True,) * 3))
    assert isinstance(
        build_physics(corridor, ENVS, PhysicsConfig(physics="auto")), KinematicPhysics
    )
    with pytest.raises(UserError, match=r"physics = 'mjx'.*this task has none.*nearest.*auto"):
        build_physics(corridor, ENVS, PhysicsConfig(physics="mjx"))
