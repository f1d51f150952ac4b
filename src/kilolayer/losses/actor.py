"""Losses of the actor and of its temperature (arXiv 2206.07568; 1812.05905, section 5)."""

import jax
import jax.numpy as jnp

from kilolayer.types import Array, Metrics


def actor_loss(energy: Array, log_density: Array, temperature: Array) -> tuple[Array, Metrics]:
    """`mean[alpha * log pi(a|s,g) - f(s,a,g)]` of the arrays `[batch]`, and what to log."""
    loss = jnp.mean(temperature * log_density - energy)
    return loss, {"loss": loss, "energy": jnp.mean(energy), "entropy": -jnp.mean(log_density)}


def temperature_loss(log_temperature: Array, log_density: Array, target_entropy: float) -> Array:
    """Raises the temperature while the entropy `-mean log_density` is below its target."""
    excess = jax.lax.stop_gradient(-jnp.mean(log_density)) - target_entropy
    return jnp.exp(log_temperature) * excess
