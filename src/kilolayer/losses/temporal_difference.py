"""Losses of agents that learn from rewards: bootstrapped values, advantages, clipped policies."""

import jax
import jax.numpy as jnp

from kilolayer.types import Array, Metrics

# Larger log ratios occur where the policy's mean lies beyond the largest action that float32 keeps
# apart from 1. From 89 on the ratio would be infinite, and its gradient NaN even where it is
# clipped.
MAX_LOG_RATIO = 20.0


def bootstrapped_target(
    reward: Array, next_value: Array, terminated: Array, discount: float
) -> Array:
    """`r + discount * V(s')` of arrays `[...]`, and `r` alone where the episode terminated.

    An episode whose time was up did not terminate. No gradient passes.
    """
    future = jnp.where(terminated, 0.0, next_value)
    return jax.lax.stop_gradient(reward + discount * future)


def soft_value(values: Array, log_prob: Array, temperature: Array | float) -> Array:
    """`min_i Q_i - alpha * log pi`: `[critics, batch], [batch] -> [batch]`.

    The value of following the policy (arXiv 1812.05905, equation 3; several critics: section 5).
    """
    return values.min(0) - temperature * log_prob


def critic_loss(values: Array, target: Array) -> tuple[Array, Metrics]:
    """Half the squared error of each critic's values `[critics, batch]`, summed over critics."""
    loss = 0.5 * jnp.square(values - target).mean(-1).sum()
    return loss, {"loss": loss, "value": values.mean(), "target": target.mean()}


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    continues: Array,
    terminated: Array,
    discount: float,
    gae_lambda: float,
) -> Array:
    """Generalised advantage estimates (arXiv 1506.02438, equation 16), `[time, envs]`.

    All arguments are `[time, envs]`. next_value: value of the successor where the episode
    `continues`. If an episode neither continues nor terminated at a step, the successor is unknown
    and the advantage is zero. gae_lambda: in 0 to 1; higher values rely less on values.
    """
    error = bootstrapped_target(reward, next_value, terminated, discount) - value
    error = jnp.where(continues | terminated, error, 0.0)

    def backwards(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        error, continues = step
        advantage = error + jnp.where(continues, discount * gae_lambda * later, 0.0)
        return advantage, advantage

    steps = (error, continues)
    return jax.lax.scan(backwards, jnp.zeros_like(error[0]), steps, reverse=True)[1]


def clipped_policy_loss(log_ratio: Array, advantage: Array, clip: float) -> tuple[Array, Metrics]:
    """`-mean min(r A, clip(r, 1 - clip, 1 + clip) A)` (arXiv 1707.06347, equation 7).

    log_ratio `[batch]`: log density of the action now minus its log density when it was taken.
    """
    ratio = jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
    return loss, {"loss": loss, "clipped_share": jnp.mean(ratio != clipped)}
