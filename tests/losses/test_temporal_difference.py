"""Losses of agents that learn from rewards, by hand and against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.losses.temporal_difference import (
    bootstrapped_target,
    clipped_policy_loss,
    critic_loss,
    gae,
    soft_value,
)
from kilolayer.networks.actor import action_log_prob


def test_termination_cuts_the_bootstrap():
    reward, value = jnp.array([1.0, 0.0, 1.0]), jnp.array([10.0, 20.0, 1e6])
    target = bootstrapped_target(reward, value, jnp.array([False, False, True]), 0.9)
    np.testing.assert_allclose(target, [10.0, 18.0, 1.0])


def test_target_has_no_gradient():
    gradient = jax.grad(lambda v: bootstrapped_target(v, v, jnp.zeros(3, bool), 0.9).sum())
    np.testing.assert_array_equal(gradient(jnp.ones(3)), np.zeros(3))


def test_policy_value_is_the_minimum_critic_plus_entropy():
    values = jnp.array([[1.0, 5.0], [2.0, 3.0]])
    found = soft_value(values, jnp.array([-2.0, 4.0]), 0.5)
    np.testing.assert_allclose(found, [1.0 + 1.0, 3.0 - 2.0])


def test_critic_loss_matches_hand_computation():
    # Errors 1, -1 and 3, 1: half of the means 1 and 5.
    loss, metrics = critic_loss(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.0, 3.0]))
    assert float(loss) == pytest.approx(3.0)
    assert float(metrics["value"]) == pytest.approx(2.5)
    assert float(metrics["target"]) == pytest.approx(1.5)


def test_advantages_match_a_loop():
    """Episodes that go on, terminate or run out of time, and the end of the unroll."""
    generator = np.random.default_rng(0)
    shape, discount, trace = (12, 40), 0.9, 0.8
    reward, value, next_value = generator.normal(size=(3, *shape))
    fate = generator.choice(["continues", "terminated", "cut"], p=[0.7, 0.15, 0.15], size=shape)
    expected = np.zeros(shape)
    for world in range(shape[1]):
        for time in range(shape[0]):
            weight = 1.0
            for later in range(time, shape[0]):
                at = later, world
                if fate[at] == "cut":
                    break
                future = discount * next_value[at] if fate[at] == "continues" else 0.0
                expected[time, world] += weight * (reward[at] + future - value[at])
                if fate[at] == "terminated":
                    break
                weight *= discount * trace
    found = jax.jit(gae, static_argnums=(5, 6))(
        *(jnp.asarray(array) for array in (reward, value, next_value)),
        jnp.asarray(fate == "continues"),
        jnp.asarray(fate == "terminated"),
        *(discount, trace),
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (fate == "terminated").sum() > 20


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # Within the clip, and beyond it where that would undo a loss: the plain product.
        (1.1, 2.0, -2.2, -2.0),
        (0.5, 2.0, -1.0, -2.0),
        (1.5, -2.0, 3.0, 2.0),
        # Beyond it where there is more to win: no slope is left.
        (1.5, 2.0, -2.4, 0.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_clipped_ratio_has_no_gradient(ratio, advantage, loss, slope):
    def of_ratio(ratio):
        return clipped_policy_loss(jnp.log(ratio)[None], jnp.array([advantage]), 0.2)

    (value, metrics), gradient = jax.value_and_grad(of_ratio, has_aux=True)(jnp.float32(ratio))
    assert float(value) == pytest.approx(loss, rel=1e-5)
    assert float(gradient) == pytest.approx(slope, abs=1e-5)
    assert float(metrics["clipped_share"]) == (abs(ratio - 1) > 0.2)


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_gradient_of_a_saturated_policy_is_finite(advantage):
    """The mean lies beyond all actions before the tanh, and moves towards them."""
    log_std, action = jnp.full((1, 1), -4.0), jnp.ones((1, 1))
    before = action_log_prob(jnp.full((1, 1), 8.5), log_std, action)

    def loss(mean):
        log_ratio = action_log_prob(mean, log_std, action) - before
        return clipped_policy_loss(log_ratio, jnp.array([advantage]), 0.2)[0]

    value, gradient = jax.value_and_grad(loss)(jnp.full((1, 1), 8.0))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
