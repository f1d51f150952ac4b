"""Remove and reorder blocks of a deep network.

It takes any pytree that contains a `Stack`: an encoder, an actor, or the moments that an optimiser
keeps for one, which have the same shape and are cut in the same way. The branch scale belongs to
the stack and does not change, so a block computes the same as before. In an encoder made by `vmap`
the block axis is not axis 0: call it inside the `vmap`.
"""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from kilolayer.networks.stack import Stack

Tree = TypeVar("Tree")


def select_blocks(tree: Tree, keep: Any) -> Tree:
    """The network with only the blocks `keep [kept]`, in that order; a block may occur twice.

    keep: whole numbers in [0, blocks). Raises ValueError if `keep` is empty or names a block that
    the network lacks. Values in a JAX array may be traced and are not checked.
    """
    known = not isinstance(keep, jax.Array)
    rows = jnp.asarray(keep, jnp.int32)
    if rows.ndim != 1 or rows.shape[0] == 0:
        raise ValueError(f"keep has the shape {rows.shape}: it names one block at least.")

    def select(node: Any) -> Any:
        if not isinstance(node, Stack):
            return node
        if known and not ((rows >= 0) & (rows < node.num_blocks)).all():
            raise ValueError(f"keep = {keep} names blocks that a stack of {node.num_blocks} lacks")
        blocks = jax.tree.map(lambda leaf: leaf[rows], node.blocks)
        depth = rows.shape[0] * node.torso.layers_per_block
        return Stack(blocks, dataclasses.replace(node.torso, depth=depth))

    return jax.tree.map(select, tree, is_leaf=lambda node: isinstance(node, Stack))
