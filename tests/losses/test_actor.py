"""Losses of the actor and the temperature, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.losses.actor import actor_loss, temperature_loss


def test_actor_loss_matches_hand_computation():
    energy, log_prob = jnp.array([1.0, -2.0]), jnp.array([0.5, 1.5])
    loss, metrics = actor_loss(energy, log_prob, jnp.float32(0.2))
    # mean(0.2 * 0.5 - 1, 0.2 * 1.5 + 2) = mean(-0.9, 2.3)
    assert float(loss) == pytest.approx(0.7)
    assert float(metrics["loss"]) == pytest.approx(0.7)
    assert float(metrics["energy"]) == pytest.approx(-0.5)
    assert float(metrics["entropy"]) == pytest.approx(-1.0)


def test_actor_loss_rewards_energy_and_entropy():
    energy, log_prob = jnp.zeros(2), jnp.zeros(2)
    by_energy, by_density = jax.grad(lambda e, d: actor_loss(e, d, 0.3)[0], argnums=(0, 1))(
        energy, log_prob
    )
    np.testing.assert_allclose(by_energy, [-0.5, -0.5])
    np.testing.assert_allclose(by_density, [0.15, 0.15])


def test_temperature_loss_matches_hand_computation():
    # Entropy 1, target -4, temperature 2: 2 * (1 + 4), and the same for its derivative by the log.
    loss, gradient = jax.value_and_grad(temperature_loss)(
        jnp.log(2.0), jnp.array([-1.5, -0.5]), -4.0
    )
    assert float(loss) == pytest.approx(10.0, rel=1e-5)
    assert float(gradient) == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize(("entropy", "rises"), [(-5.0, True), (-3.0, False)])
def test_the_temperature_rises_exactly_while_entropy_is_below_its_target(entropy, rises):
    gradient = jax.grad(temperature_loss)(jnp.float32(0.1), jnp.full(4, -entropy), -4.0)
    assert (float(gradient) < 0) is rises


def test_the_temperature_loss_does_not_move_the_actor():
    by_density = jax.grad(temperature_loss, argnums=1)(jnp.float32(0.1), jnp.ones(3), -4.0)
    np.testing.assert_array_equal(by_density, np.zeros(3))
