"""MuJoCo in threads: purity, currency of derived fields, agreement with plain MuJoCo."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco.batch import Batch

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld, NativePhysics

ENVS = 5


def start(world: MujocoWorld, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(seed)
    model = world.model
    qpos = np.tile(model.qpos0, (ENVS, 1))
    qpos[:, :3] += generator.uniform(-0.2, 0.2, (ENVS, 3))
    qpos[:, 7:] += generator.uniform(-0.5, 0.5, (ENVS, 2))
    qvel = generator.normal(size=(ENVS, model.nv))
    return jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32)


def controls(steps: int) -> jax.Array:
    generator = np.random.default_rng(9)
    return jnp.asarray(generator.uniform(-1, 1, (steps, ENVS, 2)), jnp.float32)


def play(physics: NativePhysics, state: PhysicsState, sequence: jax.Array) -> PhysicsState:
    for control in sequence:
        state = physics.step(state, control)
    return state


@pytest.fixture(scope="module")
def physics(scene) -> NativePhysics:
    return NativePhysics(scene, ENVS, threads=1)


def test_equal_inputs_give_equal_outputs(physics, scene, assert_trees_equal):
    state = physics.init(*start(scene))
    control = controls(1)[0]
    first = physics.step(state, control)
    moved = play(physics, state, controls(7))  # whatever the engine might remember
    assert not np.array_equal(moved.qpos, first.qpos)
    assert_trees_equal(physics.step(state, control), first)
    assert_trees_equal(physics.init(*start(scene)), state)


def test_the_number_of_threads_changes_nothing(scene, physics, assert_trees_equal):
    two_threads = NativePhysics(scene, ENVS, threads=2)
    first = play(physics, physics.init(*start(scene)), controls(20))
    second = play(two_threads, two_threads.init(*start(scene)), controls(20))
    assert_trees_equal(first, second)


def test_rollout_continues_bit_identically_from_a_saved_state(scene, physics, assert_trees_equal):
    """Contacts and warm starts included: the box lies on the plane by then."""
    sequence = controls(60)
    middle = play(physics, physics.init(*start(scene)), sequence[:40])
    assert float(middle.qpos[:, 2].max()) < 0.3
    saved = jax.tree.map(lambda leaf: np.array(leaf, copy=True), middle)
    unbroken = play(physics, middle, sequence[40:])
    restored = jax.tree.map(jnp.asarray, saved)
    assert_trees_equal(play(NativePhysics(scene, ENVS), restored, sequence[40:]), unbroken)


def test_a_scan_inside_jit_equals_single_steps(scene, physics, assert_trees_equal):
    sequence = controls(10)

    @jax.jit
    def rollout(qpos, qvel, sequence):
        def step(state, control):
            state = physics.step(state, control)
            return state, state.qpos

        return jax.lax.scan(step, physics.init(qpos, qvel), sequence)

    final, path = rollout(*start(scene), sequence)
    assert_trees_equal(final, play(physics, physics.init(*start(scene)), sequence))
    assert_trees_equal(path[-1], final.qpos)


def test_reset_changes_only_the_selected_environments(scene, physics, assert_trees_equal):
    state = play(physics, physics.init(*start(scene)), controls(10))
    qpos, qvel = start(scene, seed=1)
    mask = jnp.array([True, False, False, True, False])
    play(physics, state, controls(3))  # the engine is elsewhere by the time of the reset
    after = physics.reset(state, mask, qpos, qvel)
    others, chosen = np.flatnonzero(~mask), np.flatnonzero(mask)
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[others], s) for s in (after, state)))
    # A world that was reset is like one that never played.
    fresh = physics.init(qpos, qvel)
    assert_trees_equal(*(jax.tree.map(lambda leaf: leaf[chosen], s) for s in (after, fresh)))


def test_forces_after_a_reset_are_each_environments_own(scene):
    """A motor of gear 1 pushes with its control: no world may show what another one's does."""
    world = MujocoWorld(scene.model, scene.substeps, ("qfrc_actuator",))
    physics = NativePhysics(world, ENVS, threads=1)
    qpos, qvel = start(scene)
    state = physics.step(physics.init(qpos, qvel), controls(1)[0])
    mask = jnp.array([True, False, False, True, False])
    force = physics.reset(state, mask, qpos, qvel).fields["qfrc_actuator"][:, 7]
    # Its control of the hinge spans -1 to 1; a world that starts anew has control 0.
    expected = np.where(mask, 0.0, controls(1)[0, :, 1])
    np.testing.assert_allclose(force, expected, atol=1e-6)
    assert len(set(expected.tolist())) == 4


def assert_current(model: mujoco.MjModel, state: PhysicsState) -> None:
    """Derived fields are those of the state's own positions and velocities."""
    data = mujoco.MjData(model)
    for world in range(ENVS):
        data.qpos[:], data.qvel[:] = state.qpos[world], state.qvel[world]
        mujoco.mj_forward(model, data)
        for name in ("xpos", "cvel"):
            ours = np.asarray(state.fields[name][world])
            np.testing.assert_allclose(ours, getattr(data, name), atol=2e-5)
        np.testing.assert_allclose(state.fields["sensordata"][world], data.sensordata, atol=2e-5)


def test_derived_fields_are_current_after_init_step_and_reset(scene, physics):
    state = physics.init(*start(scene))
    assert_current(scene.model, state)
    state = play(physics, state, controls(3))
    assert_current(scene.model, state)
    mask = jnp.array([True, False, False, True, False])
    assert_current(scene.model, physics.reset(state, mask, *start(scene, seed=1)))


def test_derived_fields_would_lag_without_the_extra_stage(scene):
    """What the engine guards against: the bare batch leaves them a substep behind."""
    lagging = Batch(scene.model, 1, 1)
    qvel, xpos = lagging.bind("qvel"), lagging.bind("xpos")
    qvel[0, 0] = 1.0
    lagging.step(nstep=1, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
    assert lagging.bind("qpos")[0, 0] == pytest.approx(0.01, abs=1e-6)
    assert abs(float(xpos[0, 1, 0]) - 0.01) > 0.005


def test_one_environment_agrees_with_plain_mujoco(scene, physics):
    qpos, qvel = start(scene)
    state, data = physics.init(qpos, qvel), mujoco.MjData(scene.model)
    data.qpos[:], data.qvel[:] = qpos[2], qvel[2]
    low, high = np.array([-2.0, -1.0]), np.array([6.0, 1.0])
    for control in controls(30):
        state = physics.step(state, control)
        data.ctrl[:] = low + (np.asarray(control[2], np.float64) + 1) / 2 * (high - low)
        mujoco.mj_step(scene.model, data, nstep=5)
    np.testing.assert_allclose(state.qpos[2], data.qpos, atol=1e-5)
    np.testing.assert_allclose(state.qvel[2], data.qvel, atol=1e-5)


@pytest.mark.parametrize(("control", "force"), [(-1.0, -2.0), (0.0, 2.0), (1.0, 6.0)])
def test_controls_span_the_range_of_each_actuator(scene, physics, control, force):
    """The slider and what hangs on it weigh 1.5 kg: in 0.01 s of the first substep v = F t / m."""
    one_substep = NativePhysics(MujocoWorld(scene.model, substeps=1), ENVS, threads=1)
    qpos = jnp.tile(jnp.asarray(scene.model.qpos0, jnp.float32), (ENVS, 1))
    state = one_substep.init(qpos, jnp.zeros((ENVS, scene.model.nv)))
    drive = jnp.tile(jnp.array([control, 0.0]), (ENVS, 1))
    state = one_substep.step(state, drive)
    mass = np.zeros((scene.model.nv, scene.model.nv))
    data = mujoco.MjData(scene.model)
    mujoco.mj_forward(scene.model, data)
    mujoco.mj_fullM(scene.model, data, mass)
    slide_and_hinge = mass[6:, 6:]
    acceleration = np.linalg.solve(slide_and_hinge, [force, 0.0])
    np.testing.assert_allclose(state.qvel[:, 6], acceleration[0] * 0.01, rtol=1e-2)


def test_divergence_is_visible_and_isolated(scene, physics, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a log where it stands
    qpos, qvel = start(scene)
    lost = play(physics, physics.init(qpos, qvel.at[1, 0].set(1e30)), controls(5))
    assert not np.isfinite(lost.qpos[1]).all()
    calm = play(physics, physics.init(qpos, qvel), controls(5))
    others = np.array([0, 2, 3, 4])
    np.testing.assert_array_equal(lost.qpos[others], calm.qpos[others])


@pytest.mark.parametrize("fields", [True, False])
def test_diverged_environment_resets_to_a_clean_state(
    scene, fields, assert_trees_equal, tmp_path, monkeypatch
):
    """Warm start, derived fields and all: bit for bit, in the steps that follow too."""
    monkeypatch.chdir(tmp_path)
    world = scene if fields else MujocoWorld(scene.model, scene.substeps)
    used, fresh = (NativePhysics(world, ENVS, threads=1) for _ in range(2))
    qpos, qvel = start(scene)
    bad = qvel.at[1, 0].set(1e30).at[3, 2].set(jnp.inf)
    lost = play(used, used.init(qpos, bad), controls(5))
    assert np.isnan(lost.qpos[np.array([1, 3])]).any(-1).all()
    diverged = jnp.zeros(ENVS, bool).at[jnp.array([1, 3])].set(True)
    again = used.reset(lost, diverged, qpos, qvel)
    calm = play(fresh, fresh.init(qpos, qvel), controls(5))
    expected = fresh.reset(calm, diverged, qpos, qvel)
    for control in controls(30):
        assert_trees_equal(again, expected)
        again, expected = used.step(again, control), fresh.step(expected, control)


def test_the_control_step_is_a_whole_number_of_substeps(scene):
    assert scene.substeps == 5
    assert scene.control_step == pytest.approx(0.05)


ONE_CORE = """
    import os
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax, jax.numpy as jnp, numpy as np
    from kilolayer.physics.native import NativePhysics
    from kilolayer.tasks.registry import make_task

    task = make_task("ant")
    physics = NativePhysics(task.world, 256)
    goal = task.sample_goal(jax.random.key(0), 256, "training")
    state = physics.init(*task.reset(jax.random.key(1), goal, "training"))

    @jax.jit
    def play(late, state):
        return physics.step(state, jnp.tanh(late[:, :8])).qpos

    late = np.ones((256, 4000), np.float32)
    for count in range(20):
        np.asarray(play(jax.device_put(late + count), state))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_callback_with_pending_argument_works_on_one_core() -> None:
    """The program then runs on the only thread that could bring the callback its arguments."""
    code = textwrap.dedent(ONE_CORE)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)
