"""How far a policy's outputs move by rounding alone, which no export can be asked to beat.

A product in float32 is the exact product of factors that were moved in their last digits. So every
weight and every input is moved by up to one unit in its last place, at random, and what the outputs
do is the policy's own float32 noise. It grows with depth: two correct runtimes differ by as much.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.types import Array

DRAWS = 4
# What an export may differ by: so many times the noise, and this much anyway.
FACTOR, FLOOR = 4.0, 1e-5

# (observation [batch, o], goal [batch, g]), each moved by rounding
Inputs = tuple[np.ndarray, np.ndarray]


def float32_noise(function: Callable[..., Any], parameters: Any, inputs: Inputs) -> float:
    """The largest change of any output of `function(parameters, *inputs)` over four draws."""

    @jax.jit
    def moved(key: Array, parameters: Any, *inputs: Array) -> Any:
        leaves, structure = jax.tree.flatten((parameters, inputs))
        keys = jax.random.split(key, len(leaves))
        leaves = [_move(*pair) for pair in zip(keys, leaves, strict=True)]
        parameters, inputs = structure.unflatten(leaves)
        return function(parameters, *inputs)

    with jax.default_device(jax.devices("cpu")[0]):
        wanted = jax.tree.leaves(jax.jit(function)(parameters, *inputs))
        changes = [
            float(jnp.abs(got - want).max())
            for seed in range(DRAWS)
            for got, want in zip(
                jax.tree.leaves(moved(jax.random.key(seed), parameters, *inputs)),
                wanted,
                strict=True,
            )
        ]
    return max(changes)


def tolerance(noise: float) -> float:
    """What an output may differ by where rounding alone moves it by `noise`."""
    return max(FLOOR, FACTOR * noise)


def _move(key: Array, leaf: Array) -> Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    share = jax.random.uniform(key, leaf.shape, jnp.float32, -1.0, 1.0)
    return leaf * (1 + jnp.finfo(jnp.float32).eps * share).astype(leaf.dtype)
