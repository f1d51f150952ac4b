"""Losses of the actor and of its temperature (arXiv 2206.07568; 1812.05905, section 5)."""

import jax
import jax.numpy as jnp

from kilolayer.types import Array, Metrics


def actor_loss(energy: Array, log_prob: Array, temperature: Array) -> tuple[Array, Metrics]:
    """`mean[alpha * log pi(a|s,g) - f(s,a,g)]` of the arrays `[batch]`, and what to log."""
    loss = jnp.mean(temperature * log_prob - energy)
    return loss, {"loss": loss, "energy": jnp.mean(energy), "entropy": -jnp.mean(log_prob)}


def temperature_loss(
    log_temperature: Array, log_prob: Array, target_entropy: Array | float
) -> Array:
    """A loss that raises the temperature while the entropy `-mean log_prob` is below its target."""
    excess = jax.lax.stop_gradient(-jnp.mean(log_prob)) - target_entropy
    return jnp.exp(log_temperature) * excess
