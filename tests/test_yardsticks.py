"""The straightforward formulations do the same job as the package: only so is a ratio fair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.parts import operations
from benchmarks.updates import make_agent, random_batch
from benchmarks.yardsticks import (
    EnvByEnv,
    UnrolledUpdate,
    broadcast_energies,
    hindsight_of_trajectories,
)

from kilolayer.losses.energies import pairwise
from kilolayer.physics.native import NativePhysics
from kilolayer.replay.buffer import Buffer, Transition
from kilolayer.tasks.registry import make_task

pytestmark = pytest.mark.slow


def test_unrolled_update_matches_the_scan():
    agent, batch = make_agent(depth=12, width=8), random_batch(16)
    unrolled = UnrolledUpdate(agent)
    state = agent.init(jax.random.key(0))
    plain = unrolled.init(state)
    update, update_plain = jax.jit(agent.update), jax.jit(unrolled)
    for key in jax.random.split(jax.random.key(1), 5):
        state, metrics = update(state, batch, key)
        plain, losses = update_plain(plain, batch, key)
        for part in ("critic", "actor"):
            np.testing.assert_allclose(losses[part], metrics[f"{part}/loss"], rtol=1e-4)
    temperature = plain[0]["log_temperature"]
    np.testing.assert_allclose(temperature, state.parameters.log_temperature, rtol=1e-4)


def test_broadcast_energies_are_the_energies():
    phi, psi = jax.random.normal(jax.random.key(0), (2, 12, 5))
    np.testing.assert_allclose(
        broadcast_energies(phi, psi), pairwise("euclidean", phi, psi), rtol=1e-5
    )


def test_the_matrix_of_time_draws_the_truncated_geometric_distance():
    # Two episodes of 3 steps and 1 environment; achieved goals are the positions in time.
    episode_step = jnp.array([[0], [1], [2], [0], [1], [2]])
    time = jnp.arange(6.0)[:, None, None]
    buffer = Buffer(Transition(time, time, time, time, episode_step), jnp.int32(6))
    batch = hindsight_of_trajectories(
        buffer, jax.random.key(0), trajectories=4000, length=6, discount=0.5
    )
    offset = (batch.goal - batch.observation).reshape(4000, 6)
    assert (offset[:, [2, 5]] == 0).all()
    assert (offset[:, [1, 4]] == 1).all()
    # Offsets 1 and 2 with odds 2 to 1: mean 4/3, standard error 0.0053.
    assert float(offset[:, [0, 3]].mean()) == pytest.approx(4 / 3, abs=0.02)


def test_sequential_environments_match_the_batch():
    task = make_task("ant")
    qpos, qvel = task.reset(
        jax.random.key(0), task.sample_goal(jax.random.key(1), 2, "training"), "training"
    )
    physics = NativePhysics(task.world, 2)
    action = jnp.full((2, 8), 0.3)
    expected = physics.step(physics.init(qpos, qvel), action)
    stepped = EnvByEnv(task.world, qpos, qvel)
    stepped.step(task.world.controls(np.asarray(action)))
    found = np.stack([data.qpos for data in stepped.envs])
    np.testing.assert_allclose(found, expected.qpos, atol=1e-5)


def test_update_operations_match_hand_computation():
    agent = make_agent(depth=4, width=10)
    deep, out = 4 * 100, 10 * 64
    pair, goal, actor = (29 + 8) * 10, 2 * 10, (29 + 2) * 10
    heads = (out, out, 10 * 16)
    # Forward and kernels' gradients of three networks, inputs' gradients of their later layers.
    learning = 2 * (pair + goal + actor) + 3 * (3 * deep + sum(heads))
    through_critic = 2 * (pair + deep + out)
    assert operations(agent, 6) == 2 * 6 * (learning + through_critic + 3 * 6 * 64)
