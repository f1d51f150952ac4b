"""Taking blocks out of a deep network, putting them in another order, and adding more.

Each function takes any pytree with a `Stack` in it: an encoder, an actor, or the moments that an
optimiser keeps of one, which have the same shape and so are cut alike. The scale of the branches is
the stack's own and stays, so that a block computes what it did before. Of an encoder that `vmap`
made the blocks are not axis 0: call these within the `vmap`.
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
"""Blocks whose every leaf has a leading block axis."""


def select_blocks(tree: Tree, keep: Any) -> Tree:
    """The network with the blocks `keep [kept]` alone, in that order; one given twice is twice
    there.

    keep: whole numbers in [0, blocks). Raises ValueError if there is none, or if one is not in the
    network; those in an array of JAX's, which may be traced, are not looked at.
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
    """The network with `count` new blocks before its block `at`, which change nothing until they
    learn.

    Their layers are drawn anew, but for what silences the branch: see `silent`. Raises UserError
    where blocks replace the stream, so that none can be silent.
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
    """An optimiser's state for a network grown by `grow_blocks`: nothing is known of the new."""

    def grow(stack: Stack) -> Blocks:
        new = jax.tree.map(
            lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), stack.blocks
        )
        return _inserted(stack.blocks, at, new)

    return _with_blocks(tree, grow)


def silent(block: ResidualBlock) -> ResidualBlock:
    """The block with a branch that leaves the stream as it is, and a gradient that wakes it.

    An interpolating block goes no way towards its branch. An added branch is zero: the last layer's
    scale and offset where it has a norm, else its kernel, and its bias. One that ends in a relu has
    no gradient at zero and stays asleep.
    """
    if block.interpolation is not None:
        return dataclasses.replace(block, interpolation=jnp.zeros_like(block.interpolation))
    *others, last = block.layers
    return dataclasses.replace(block, layers=(*others, _silent_layer(last)))


def _silent_layer(layer: NormedLayer) -> NormedLayer:
    dense = dataclasses.replace(layer.dense, bias=jnp.zeros_like(layer.dense.bias))
    if layer.scale is None:
        # Kernels under a scale of zero stay as drawn: were both zero, neither would ever learn.
        dense = dataclasses.replace(dense, kernel=jnp.zeros_like(dense.kernel))
    zeros = jax.tree.map(jnp.zeros_like, (layer.scale, layer.offset))
    return dataclasses.replace(layer, dense=dense, scale=zeros[0], offset=zeros[1])


def _inserted(blocks: Blocks, at: int, new: Blocks) -> Blocks:
    return jax.tree.map(lambda old, new: jnp.concatenate([old[:at], new, old[at:]]), blocks, new)


def _with_blocks(tree: Tree, change: Callable[[Stack], Blocks]) -> Tree:
    """The tree with other blocks in each of its stacks."""

    def changed(node: Any) -> Any:
        if not isinstance(node, Stack):
            return node
        return dataclasses.replace(node, blocks=change(node))

    return jax.tree.map(changed, tree, is_leaf=lambda node: isinstance(node, Stack))
