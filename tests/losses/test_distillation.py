"""The divergence against an integral and by hand; the critic's weights by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from kilolayer.losses.distillation import critic_weights, gaussian_divergence


def policy(mean: list[float], log_std: list[float]) -> tuple[jax.Array, jax.Array]:
    return jnp.array([mean]), jnp.array([log_std])


def test_gaussian_divergence_matches_hand_computation():
    # ln 2 + (1 + 1) / (2 * 4) - 1/2 for N(1, 1) against N(0, 4), and nothing for equals.
    teacher, student = policy([1.0, 3.0], [0.0, -1.0]), policy([0.0, 3.0], [np.log(2), -1.0])
    found = gaussian_divergence(teacher, student)
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(np.log(2) + 2 / 8 - 0.5, rel=1e-5)


def test_divergence_equals_that_of_the_squashed_policies():
    def density(action: float, mean: float, std: float) -> float:
        return stats.norm.pdf(np.arctanh(action), mean, std) / (1 - action**2)

    def integrand(action: float) -> float:
        p, q = density(action, 0.3, 0.5), density(action, -0.2, 0.8)
        return p * np.log(p / q) if p > 0 else 0.0

    expected = integrate.quad(integrand, -1 + 1e-9, 1 - 1e-9, limit=200)[0]
    found = gaussian_divergence(
        policy([0.3], [float(np.log(0.5))]), policy([-0.2], [float(np.log(0.8))])
    )
    assert float(found[0]) == pytest.approx(expected, rel=1e-4)


def test_weights_match_hand_computation():
    # Losses 0, 1 and 3 have the mean 4/3; what the student does better counts as no loss.
    found = critic_weights(jnp.array([-2.0, -1.0, 0.0]), jnp.array([-1.0, -2.0, -3.0]))
    np.testing.assert_allclose(found, [0.5, 0.5 + 0.5 * 3 / 4, 0.5 + 0.5 * 9 / 4], rtol=1e-6)


def test_weights_are_equal_without_a_loss_of_value():
    np.testing.assert_array_equal(critic_weights(jnp.zeros(3), jnp.ones(3)), np.ones(3))


def test_weights_have_no_gradient():
    gradient = jax.grad(lambda energy: critic_weights(jnp.zeros(2), energy)[0])(
        jnp.array([-1.0, -3])
    )
    np.testing.assert_array_equal(gradient, np.zeros(2))
