"""The tanh-Gaussian actor; the density of a squashed Gaussian is arXiv 1812.05905, appendix C."""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.types import Array

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
# An action at a bound is the tanh of an infinity and would have no density. It counts as one this
# far out, which is 3.8 before the tanh: a recorded action that was clipped should not outweigh all
# others.
LARGEST_ACTION = 0.999


class Actor(eqx.Module):
    """Maps (observation, goal) to a Gaussian whose samples are squashed into (-1, 1) by tanh."""

    encoder: Encoder

    @staticmethod
    def init(
        key: Array, observation_dim: int, goal_dim: int, action_dim: int, torso: TorsoSpec
    ) -> "Actor":
        return Actor(Encoder.init(key, observation_dim + goal_dim, 2 * action_dim, torso))

    def __call__(self, observation: Array, goal: Array) -> tuple[Array, Array]:
        """`([batch, observation], [batch, goal]) -> (mean, log_std)`, each `[batch, action]`."""
        outputs = self.encoder(jnp.concatenate([observation, goal], -1))
        mean, raw = jnp.split(outputs, 2, -1)
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (jnp.tanh(raw) + 1.0)
        return mean, log_std


def sample_action(mean: Array, log_std: Array, key: Array) -> tuple[Array, Array]:
    """Draw actions `[..., action]` in (-1, 1) with their log densities `[...]`."""
    noise = jax.random.normal(key, mean.shape)
    unsquashed = mean + jnp.exp(log_std) * noise
    return jnp.tanh(unsquashed), _log_density(noise, log_std, unsquashed)


def action_log_density(mean: Array, log_std: Array, action: Array) -> Array:
    """Log densities `[...]` of given actions `[..., action]` in [-1, 1]; finite at the bounds."""
    unsquashed = jnp.arctanh(jnp.clip(action, -LARGEST_ACTION, LARGEST_ACTION))
    return _log_density((unsquashed - mean) * jnp.exp(-log_std), log_std, unsquashed)


def _log_density(noise: Array, log_std: Array, unsquashed: Array) -> Array:
    """Of the action tanh(unsquashed), which lies `noise` standard deviations from the mean.

    The change of variables uses log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which stays
    finite for large |u|.
    """
    gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * jnp.log(2 * jnp.pi)
    squash = 2.0 * (jnp.log(2.0) - unsquashed - jax.nn.softplus(-2.0 * unsquashed))
    return (gaussian - squash).sum(-1)
