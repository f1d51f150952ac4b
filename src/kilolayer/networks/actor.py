"""The tanh-Gaussian actor. Density of a squashed Gaussian: arXiv 1812.05905, appendix C."""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.types import Array

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
# In float32 tanh reaches 1, and its inverse would be infinite.
MAX_ACTION = 1 - 1e-6

# Mean and log standard deviation before tanh, each [..., action].
Gaussian = tuple[Array, Array]


class Actor(eqx.Module):
    """Maps (observation, goal) to a Gaussian whose samples are squashed into (-1, 1) by tanh."""

    encoder: Encoder

    @staticmethod
    def init(
        key: Array, observation_dim: int, goal_dim: int, action_dim: int, torso: TorsoSpec
    ) -> "Actor":
        return Actor(Encoder.init(key, observation_dim + goal_dim, 2 * action_dim, torso))

    def __call__(self, observation: Array, goal: Array) -> Gaussian:
        """`([batch, observation], [batch, goal]) -> (mean, log_std)`, each `[batch, action]`."""
        return gaussian(self.encoder(jnp.concatenate([observation, goal], -1)))


def gaussian(outputs: Array) -> Gaussian:
    """Mean and log standard deviation from a network's outputs `[..., 2 * action]`. The log
    standard deviation is squashed into its bounds."""
    mean, raw = jnp.split(outputs, 2, -1)
    log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (jnp.tanh(raw) + 1.0)
    return mean, log_std


def sample_action(mean: Array, log_std: Array, key: Array) -> tuple[Array, Array]:
    """Draw actions `[..., action]` in (-1, 1) with their log densities `[...]`.

    The change of variables uses log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which stays
    finite for large |u|.
    """
    noise = jax.random.normal(key, mean.shape)
    unsquashed = mean + jnp.exp(log_std) * noise
    return jnp.tanh(unsquashed), _log_prob(noise, log_std, unsquashed)


def choose_action(policy: Gaussian, key: Array, deterministic: bool) -> Array:
    """The mean action of a policy `[..., action]`, or one drawn with the key."""
    mean, log_std = policy
    return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]


def deviations(mean: Array, log_std: Array, action: Array) -> Array:
    """Distance of stored actions `[..., action]` from the mean before tanh, in deviations."""
    return (unsquash(action) - mean) * jnp.exp(-log_std)


def action_log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    """Log densities `[...]` of stored actions `[..., action]` in [-1, 1]."""
    return _log_prob(deviations(mean, log_std, action), log_std, unsquash(action))


def unsquash(action: Array) -> Array:
    """The inverse of tanh, finite also for an action at its limit."""
    return jnp.arctanh(jnp.clip(action, -MAX_ACTION, MAX_ACTION))


def _log_prob(noise: Array, log_std: Array, unsquashed: Array) -> Array:
    gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - unsquashed - jax.nn.softplus(-2.0 * unsquashed))
    return (gaussian - squash).sum(-1)
