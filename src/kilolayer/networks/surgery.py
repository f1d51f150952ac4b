"""Remove, reorder and add blocks of a deep network.

Each function takes any pytree that contains a `Stack`: an encoder, an actor, or the moments that an
optimiser keeps for one, which have the same shape and are cut in the same way. The branch scale
belongs to the stack and does not change, so a block computes the same as before. In an encoder made
by `vmap` the block axis is not axis 0: call these functions inside the `vmap`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from kilolayer.networks.block import NormedLayer, ResidualBlock
from kilolayer.networks.stack import Stack
from kilolayer.types import Array, UserError

Tree = TypeVar("Tree")
Blocks = ResidualBlock
"""Blocks; every leaf has a leading block axis."""


def select_blocks(tree: Tree, keep: Any) -> Tree:
    """The network with only the blocks `keep [kept]`, in that order; a block may occur twice.

    keep: whole numbers in [0, blocks). Raises ValueError if `keep` is empty or names a block that
    the network lacks. Values in a JAX array may be traced and are not checked.
    """
    known = not isinstance(keep, jax.Array)
    rows = jnp.asarray(keep, jnp.int32)
    if rows.ndim != 1 or rows.shape[0] == 0:
        raise ValueError(f"keep has the shape {rows.shape}: it names one block at least.")

    def select(stack: Stack) -> Blocks:
        if known and not ((rows >= 0) & (rows < stack.num_blocks)).all():
            raise ValueError(f"keep = {keep} names blocks that a stack of {stack.num_blocks} lacks")
        return jax.tree.map(lambda leaf: leaf[rows], stack.blocks)

    return _with_blocks(tree, select)


def grow_blocks(key: Array, tree: Tree, at: int, count: int) -> Tree:
    """The network with `count` new blocks before block `at`. Untrained, they change nothing.

    Their layers are drawn at random, except for the part that silences the branch: see `silent`.
    Raises UserError if blocks replace the stream, because then no block can be silent.
    """

    def grow(stack: Stack) -> Blocks:
        if stack.architecture.residual == "none":
            raise UserError(
                "residual = 'none' is not allowed: a network without residual connections has no "
                "block that changes nothing, so it cannot grow."
            )

        def draw(key: Array) -> ResidualBlock:
            width = stack.blocks.layers[0].dense.kernel.shape[1]
            return silent(
                ResidualBlock.init(key, len(stack.blocks.layers), width, stack.architecture)
            )

        return _inserted(stack.blocks, at, jax.vmap(draw)(jax.random.split(key, count)))

    return _with_blocks(tree, grow)


def grow_moments(tree: Tree, at: int, count: int) -> Tree:
    """An optimiser's state for a network grown by `grow_blocks`: zeros for the new blocks."""

    def grow(stack: Stack) -> Blocks:
        new = jax.tree.map(
            lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), stack.blocks
        )
        return _inserted(stack.blocks, at, new)

    return _with_blocks(tree, grow)


def silent(block: ResidualBlock) -> ResidualBlock:
    """The block with a branch that does not change the stream but has a gradient.

    An interpolating block gets interpolation zero. An added branch is zero: the last layer has a
    zero bias and, if it has a norm, zero scale and offset, else a zero kernel. A branch that ends
    in a relu has no gradient at zero and never learns.
    """
    if block.interpolation is not None:
        return dataclasses.replace(block, interpolation=jnp.zeros_like(block.interpolation))
    *others, last = block.layers
    return dataclasses.replace(block, layers=(*others, _silent_layer(last)))


def _silent_layer(layer: NormedLayer) -> NormedLayer:
    dense = dataclasses.replace(layer.dense, bias=jnp.zeros_like(layer.dense.bias))
    if layer.scale is None:
        # With a zero scale the kernel stays as drawn: if both were zero, neither would ever learn.
        dense = dataclasses.replace(dense, kernel=jnp.zeros_like(dense.kernel))
    zeros = jax.tree.map(jnp.zeros_like, (layer.scale, layer.offset))
    return dataclasses.replace(layer, dense=dense, scale=zeros[0], offset=zeros[1])


def _inserted(blocks: Blocks, at: int, new: Blocks) -> Blocks:
    return jax.tree.map(lambda old, new: jnp.concatenate([old[:at], new, old[at:]]), blocks, new)


def _with_blocks(tree: Tree, change: Callable[[Stack], Blocks]) -> Tree:
    """The tree with changed blocks in each of its stacks."""

    def changed(node: Any) -> Any:
        if not isinstance(node, Stack):
            return node
        return dataclasses.replace(node, blocks=change(node))

    return jax.tree.map(changed, tree, is_leaf=lambda node: isinstance(node, Stack))
