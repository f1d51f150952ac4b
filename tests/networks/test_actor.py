"""The tanh-Gaussian actor: range of its spread and its density."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kilolayer.networks.actor import Actor, action_log_prob, sample_action
from kilolayer.networks.encoders import TorsoSpec


@pytest.fixture
def actor(random_module) -> Actor:
    return random_module(Actor.init, 3, 2, 4, TorsoSpec(depth=4, width=16))


def test_log_std_covers_its_range(actor, normal):
    loud = eqx.tree_at(lambda a: a.encoder.outputs.kernel, actor, replace_fn=lambda k: 1e4 * k)
    mean, log_std = loud(normal(0, 64, 3), normal(1, 64, 2))
    assert mean.shape == log_std.shape == (64, 4)
    assert float(log_std.min()) == pytest.approx(-5, abs=1e-5)
    assert float(log_std.max()) == pytest.approx(2, abs=1e-5)


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def test_log_std_of_a_zero_output_is_the_middle_of_the_range(actor, normal):
    silent = eqx.tree_at(lambda a: a.encoder.outputs, actor, replace_fn=zeros)
    mean, log_std = silent(normal(0, 3, 3), normal(1, 3, 2))
    np.testing.assert_allclose(log_std, -1.5, atol=1e-6)
    np.testing.assert_allclose(mean, 0.0, atol=1e-6)


def test_log_density_is_that_of_a_squashed_gaussian():
    mean = jnp.array([[0.3, -0.7]] * 2000)
    log_std = jnp.array([[-1.0, -0.2]] * 2000)
    action, log_prob = sample_action(mean, log_std, jax.random.key(0))
    assert action.shape == (2000, 2)
    assert log_prob.shape == (2000,)
    action = np.asarray(action, np.float64)
    middle = (np.abs(action) < 0.99).all(-1)  # where float32 still resolves atanh
    assert middle.mean() > 0.8
    unsquashed = np.arctanh(action[middle])
    # Change of variables by a numerical derivative of the squashing.
    slope = (np.tanh(unsquashed + 1e-5) - np.tanh(unsquashed - 1e-5)) / 2e-5
    gaussian = stats.norm.logpdf(unsquashed, [0.3, -0.7], np.exp([-1.0, -0.2]))
    expected = (gaussian - np.log(slope)).sum(-1)
    np.testing.assert_allclose(log_prob[middle], expected, atol=2e-3)


def test_samples_follow_the_gaussian_before_squashing():
    mean, log_std = jnp.full((20_000, 1), 0.2), jnp.full((20_000, 1), -0.7)
    action, _ = sample_action(mean, log_std, jax.random.key(3))
    unsquashed = np.arctanh(np.asarray(action, np.float64)).ravel()
    assert stats.kstest(unsquashed, stats.norm(0.2, np.exp(-0.7)).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [-60.0, 60.0])
def test_density_and_gradient_stay_finite_at_the_edge(mean):
    def density(mean):
        return sample_action(mean, jnp.full((8, 2), 2.0), jax.random.key(0))[1].sum()

    value, gradient = jax.value_and_grad(density)(jnp.full((8, 2), mean))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    # Near the edge the density grows as the squashing flattens: its log grows by 2 per unit.
    np.testing.assert_allclose(gradient, np.sign(mean) * 2.0, atol=1e-3)


def test_stored_actions_keep_their_log_density():
    mean, log_std = jnp.array([[0.3, -0.7]] * 500), jnp.array([[-1.0, -0.2]] * 500)
    action, drawn = sample_action(mean, log_std, jax.random.key(0))
    np.testing.assert_allclose(action_log_prob(mean, log_std, action), drawn, atol=2e-3)


def test_an_action_at_its_limit_has_a_finite_density_and_gradient():
    def density(mean):
        return action_log_prob(mean, jnp.zeros((2, 1)), jnp.array([[-1.0], [1.0]])).sum()

    value, gradient = jax.value_and_grad(density)(jnp.zeros((2, 1)))
    assert np.isfinite(value)
    # Towards the action, as far as it is still told from the limit.
    assert float(gradient[1, 0]) > 5
    assert float(gradient[0, 0]) == pytest.approx(-float(gradient[1, 0]))
