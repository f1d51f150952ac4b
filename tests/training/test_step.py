"""The horizon of hindsight goals over a training run."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.config import TrainConfig
from kilolayer.training.build import build_trainer, check_dtype
from kilolayer.types import UserError

CONFIG = TrainConfig(
    total_steps=2_000,
    num_envs=4,
    unroll_length=50,
    depth=4,
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


def test_without_an_initial_discount_it_stays():
    trainer = build_trainer(dataclasses.replace(CONFIG, initial_discount=None))
    assert {trainer.discount(jnp.int32(unrolls)) for unrolls in (0, 5, 10)} == {0.98}


def test_goals_lie_farther_ahead_late_in_training():
    trainer = build_trainer(CONFIG)
    state = jax.jit(trainer.init)()
    for _ in range(2):
        state = jax.jit(trainer.collect)(state)
    # Ages instead of places, so that a goal minus its step is how far ahead it lies.
    age = jnp.repeat(state.buffer.steps.age[..., None], 2, -1).astype(jnp.float32)
    steps = dataclasses.replace(
        state.buffer.steps, achieved_goal=age, observation=jnp.tile(age, (1, 1, 2))
    )
    buffer = dataclasses.replace(state.buffer, steps=steps)

    @jax.jit
    def mean_offset(unrolls):
        at = dataclasses.replace(state, buffer=buffer, unrolls=unrolls)
        batch = trainer.sample(at, jax.random.key(0))
        return (batch.goal - batch.observation[:, :2]).mean()

    first, last = (float(mean_offset(jnp.int32(unrolls))) for unrolls in (2, 10))
    assert first == pytest.approx(2, abs=0.6)
    assert last > 10


def test_bfloat16_is_refused_where_a_gpu_has_none() -> None:
    coarse = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
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


@pytest.mark.parametrize(("share", "greedy"), [(0.0, []), (0.5, [1, 3]), (1.0, [0, 1, 2, 3])])
def test_a_share_of_the_worlds_acts_without_noise(share: float, greedy: list[int]) -> None:
    trainer = build_trainer(dataclasses.replace(CONFIG, greedy_env_share=share))
    state = jax.jit(trainer.collect)(jax.jit(trainer.init)())
    steps, parameters = state.buffer.steps, state.agent.parameters
    mean, _ = parameters.actor(steps.observation[:50], steps.goal[:50])
    without_noise = np.isclose(steps.action[:50], jnp.tanh(mean), atol=1e-5).all((0, 2))
    assert np.flatnonzero(without_noise).tolist() == greedy
