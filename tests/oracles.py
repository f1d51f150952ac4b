"""What a scan, a vmap or a routed batch computes, written as loops."""

import jax
import jax.numpy as jnp

from kilolayer.networks.mixture import Mixture
from kilolayer.networks.stack import Stack
from kilolayer.types import Array


def apply_in_a_loop(stack: Stack, x: Array) -> Array:
    """The same function as `Stack.__call__`, one block after the other."""
    for index in range(stack.num_blocks):
        x = stack.apply_block(index, x)
    return x


def apply_in_loops(mixture: Mixture, x: Array) -> Array:
    """The same function as `Mixture.__call__` without a capacity, row by row and expert by expert:
    the test's oracle."""

    @jax.jit
    def added(experts: Stack, index: Array, row: Array) -> Array:
        expert = jax.tree.map(lambda leaf: leaf[index], experts)
        return expert(row[None])[0] - row

    for number in range(mixture.layers.router.kernel.shape[0]):
        layer = jax.tree.map(lambda leaf, number=number: leaf[number], mixture.layers)
        rows = []
        for row in x:
            logits = layer.router(row)
            chosen = jnp.argsort(-logits)[: layer.top_k]
            gates = jnp.exp(logits[chosen]) / jnp.exp(logits[chosen]).sum()
            branches = [added(layer.experts, index, row) for index in chosen]
            rows.append(row + sum(g * branch for g, branch in zip(gates, branches, strict=True)))
        x = jnp.stack(rows)
    return x
