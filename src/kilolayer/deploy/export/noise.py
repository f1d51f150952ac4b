"""Float32 noise: the change of a policy's outputs due to rounding. No export can be closer.

A rounded float32 product is the exact product of slightly changed factors. The noise is measured by
changing every weight and input at random, by up to one unit in the last place. It grows with depth,
and two correct runtimes differ by as much.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.types import Array

DRAWS = 4
# An export may differ by FACTOR times the noise, and always by FLOOR.
FACTOR, FLOOR = 4.0, 1e-5

# (observation [batch, o], goal [batch, g])
Inputs = tuple[np.ndarray, np.ndarray]


def float32_noise(function: Callable[..., Any], parameters: Any, inputs: Inputs) -> float:
    """The largest change of any output of `function(parameters, *inputs)` in four random draws."""

    @jax.jit
    def perturbed(key: Array, parameters: Any, *inputs: Array) -> Any:
        leaves, structure = jax.tree.flatten((parameters, inputs))
        keys = jax.random.split(key, len(leaves))
        leaves = [_perturb(*pair) for pair in zip(keys, leaves, strict=True)]
        parameters, inputs = structure.unflatten(leaves)
        return function(parameters, *inputs)

    with jax.default_device(jax.devices("cpu")[0]):
        exact = jax.tree.leaves(jax.jit(function)(parameters, *inputs))
        changes = [
            float(jnp.abs(output - target).max())
            for seed in range(DRAWS)
            for output, target in zip(
                jax.tree.leaves(perturbed(jax.random.key(seed), parameters, *inputs)),
                exact,
                strict=True,
            )
        ]
    return max(changes)


def tolerance(noise: float) -> float:
    """The largest allowed difference of an output whose float32 noise is `noise`."""
    return max(FLOOR, FACTOR * noise)


def _perturb(key: Array, leaf: Array) -> Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    share = jax.random.uniform(key, leaf.shape, jnp.float32, -1.0, 1.0)
    return leaf * (1 + jnp.finfo(jnp.float32).eps * share).astype(leaf.dtype)
