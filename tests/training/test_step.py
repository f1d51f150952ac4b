"""A round of training: the horizon of its goals, the acting policy, and the buffer."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import Sampling
from kilolayer.analysis.load import load
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.mesh import fetch_to_host
from kilolayer.training.build import build_trainer, check_dtype
from kilolayer.training.saving import write_state

CONFIG = run_config(
    total_steps=2_000,
    num_envs=4,
    unroll_length=50,
    layers_per_block=1,
    depth=2,
    width=8,
    batch_size=64,
    discount=0.98,
    initial_discount=0.5,
    replay_steps_per_env=200,
    min_replay_steps_per_env=100,
)


def test_the_horizon_grows_linearly_from_the_first_update_to_the_last():
    """Two unrolls of prefill, eight with updates; horizons 2 and 50 steps."""
    discount = build_trainer(CONFIG).discount
    horizons = [float(1 / (1 - discount(jnp.int32(unrolls)))) for unrolls in (0, 2, 6, 10, 99)]
    np.testing.assert_allclose(horizons, [2, 2, 26, 50, 50], rtol=1e-4)


def test_horizon_growth_can_end_early():
    discount = build_trainer(CONFIG.having(horizon_growth_share=0.5)).discount
    horizons = [float(1 / (1 - discount(jnp.int32(unrolls)))) for unrolls in (2, 4, 6, 8, 10)]
    np.testing.assert_allclose(horizons, [2, 26, 50, 50, 50], rtol=1e-4)


def test_horizon_is_constant_without_an_initial_discount():
    trainer = build_trainer(CONFIG.having(initial_discount=None))
    assert {trainer.discount(jnp.int32(unrolls)) for unrolls in (0, 5, 10)} == {0.98}


def test_hindsight_goals_lie_farther_ahead_late_in_training():
    trainer = build_trainer(CONFIG)
    state = jax.jit(trainer.init)()
    for _ in range(2):
        state, _ = jax.jit(trainer.collect)(state)
    # Ages instead of places, so that a goal minus its step is how far ahead it lies.
    episode_step = jnp.repeat(state.buffer.steps.episode_step[..., None], 2, -1).astype(jnp.float32)
    steps = dataclasses.replace(
        state.buffer.steps,
        achieved_goal=episode_step,
        observation=jnp.tile(episode_step, (1, 1, 2)),
    )
    buffer = dataclasses.replace(state.buffer, steps=steps)

    def mean_offset(trainer, unrolls):
        at = dataclasses.replace(state, buffer=buffer, unrolls=unrolls)
        batch = jax.jit(trainer.sample)(at, jax.random.key(0))
        return float((batch.goal - batch.observation[:, :2]).mean())

    first, last = (mean_offset(trainer, jnp.int32(unrolls)) for unrolls in (2, 10))
    assert first == pytest.approx(2, abs=0.6)
    assert last > 10
    # An agent that wants them spread over the rest of the episode gets them so from the start:
    # of 100 steps, goals lie 25 ahead on average.
    uniform = SimpleNamespace(sampling=Sampling("uniform"), batch_size=trainer.agent.batch_size)
    spread = mean_offset(dataclasses.replace(trainer, agent=uniform), jnp.int32(2))
    assert spread == pytest.approx(25, abs=6)


def test_goal_noise_moves_only_hindsight_goals(
    assert_trees_equal,
):
    config = CONFIG.having(batch_size=256)
    trainer = build_trainer(config)
    noisy = build_trainer(config.having(hindsight_goal_noise=0.4))
    state = jax.jit(trainer.init)()
    for _ in range(2):
        state, _ = jax.jit(trainer.collect)(state)
    plain, moved = (jax.jit(each.sample)(state, jax.random.key(0)) for each in (trainer, noisy))
    off = np.asarray(moved.goal - plain.goal)
    assert off.std() == pytest.approx(0.4 * trainer.task.goal.radius, rel=0.1)
    assert abs(off.mean()) < 0.05 * trainer.task.goal.radius
    assert_trees_equal(dataclasses.replace(moved, goal=plain.goal), plain)
    with pytest.raises(UserError, match=r"hindsight_goal_noise = -1.0 .* it must be at least 0"):
        build_trainer(config.having(hindsight_goal_noise=-1.0))


def test_bfloat16_is_refused_on_a_gpu_without_it() -> None:
    coarse = CONFIG.having(compute_dtype="bfloat16")
    old, new, cpu = (
        SimpleNamespace(device_kind="Tesla V100", compute_capability="7.0"),
        SimpleNamespace(device_kind="NVIDIA H100", compute_capability="9.0"),
        SimpleNamespace(device_kind="cpu"),
    )
    for device in (new, cpu):
        check_dtype(coarse, device)
    with pytest.raises(UserError, match=r"Tesla V100 has no bfloat16 arithmetic.*float32"):
        check_dtype(coarse, old)
    check_dtype(CONFIG, old)


def test_on_policy_agent_learns_only_from_the_newest_unroll():
    trainer = build_trainer(CONFIG.having(agent="ppo"))
    # A buffer of more than it needs.
    schedule = dataclasses.replace(trainer.schedule, replay_capacity=200)
    trainer = dataclasses.replace(trainer, schedule=schedule)
    state, collect = jax.jit(trainer.init)(), jax.jit(trainer.collect)
    for _ in range(3):
        state, _ = collect(state)
    episode_step = state.buffer.steps.episode_step.at[100:149].add(
        1000
    )  # of the third unroll, all but the last
    observation = jnp.tile(episode_step[..., None].astype(jnp.float32), 4)
    steps = dataclasses.replace(state.buffer.steps, observation=observation)
    state = dataclasses.replace(state, buffer=dataclasses.replace(state.buffer, steps=steps))
    draw = jax.jit(lambda key: trainer.batches(state, key)(1, key))
    batch = draw(jax.random.key(0))
    assert batch.observation.shape == (CONFIG.agent.batch_size, 4)
    assert float(batch.observation.min()) >= 1000


def test_averaged_weights_track_the_newest_and_act(tmp_path, assert_trees_equal):
    config = CONFIG.having(average_decay=0.9, update_to_data=1 / 200)
    trainer = build_trainer(config)
    assert trainer.schedule.updates_per_unroll == 1
    state, step = jax.jit(trainer.init)(), jax.jit(trainer.round)
    expected = jax.tree.leaves(state.agent.parameters.actor)
    for _ in range(3):
        state, _ = step(state)
        newest = jax.tree.leaves(state.agent.parameters.actor)
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, newest, strict=True)]
    for found in (state.average, state.evaluated.parameters.actor):
        for actual, target in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(actual, target, rtol=1e-5, atol=1e-7)
    assert_trees_equal(state.evaluated.parameters.critic, state.agent.parameters.critic)
    run = RunDirectory.create(tmp_path / "run", config, {})
    write_state(run, 3, fetch_to_host(state))
    kept = load(run.path).agent_state.parameters.actor
    for actual, target in zip(jax.tree.leaves(kept), jax.tree.leaves(state.average), strict=True):
        np.testing.assert_array_equal(actual, target)


@pytest.mark.slow
def test_on_policy_buffer_holds_one_unroll(assert_trees_equal):
    # At depth 2 the two programs round differently.
    config = CONFIG.having(agent="ppo", layers_per_block=4, depth=4)
    trainer = build_trainer(config)
    assert jax.eval_shape(trainer.init).buffer.capacity == config.collection.unroll_length
    whole = dataclasses.replace(
        trainer.schedule, replay_capacity=config.replay.replay_steps_per_env
    )
    agents = []
    for each in (trainer, dataclasses.replace(trainer, schedule=whole)):
        train, state = jax.jit(each.round), jax.jit(each.init)()
        for _ in range(3):
            state, _ = train(state)
        batch = jax.jit(each.sample)(state, jax.random.key(0))
        assert np.isfinite(batch.goal).all()  # the report looks at one
        agents.append(state.agent)
    assert_trees_equal(*agents)
