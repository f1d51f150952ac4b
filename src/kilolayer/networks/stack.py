"""The deep residual stack: blocks stacked along axis 0 and applied with `lax.scan`.

Trace and compile time do not grow with depth. Because the block axis is axis 0 of every leaf,
pruning is `leaf[keep]` and growing is a concatenation, on parameters and optimiser state alike.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.block import ResidualBlock
from kilolayer.types import Array

Rematerialisation = Literal["none", "block"]


class BlockStatistics(eqx.Module):
    """What a forward pass shows of each block; every leaf has a leading block axis.

    residual: the residual stream after the block, `[blocks, batch, width]`.
    activity: mean absolute activation of every unit, `[blocks, layers, width]`.
    """

    residual: Array
    activity: Array


class Stack(eqx.Module):
    """A sequence of equal residual blocks, `[batch, width] -> [batch, width]`.

    rematerialisation: `block` stores only the residual stream and recomputes each block in the
    backward pass; `none` stores every activation. unroll: blocks per iteration of the scan.
    """

    blocks: ResidualBlock  # every leaf has a leading block axis
    rematerialisation: Rematerialisation = eqx.field(static=True)
    unroll: int = eqx.field(static=True)

    @staticmethod
    def init(
        key: Array,
        num_blocks: int,
        layers_per_block: int,
        width: int,
        rematerialisation: Rematerialisation = "none",
        unroll: int = 1,
    ) -> "Stack":
        def init_block(key: Array) -> ResidualBlock:
            return ResidualBlock.init(key, layers_per_block, width)

        blocks = jax.vmap(init_block)(jax.random.split(key, num_blocks))
        return Stack(blocks, rematerialisation, unroll)

    @property
    def num_blocks(self) -> int:
        return self.blocks.layers[0].scale.shape[0]

    def __call__(self, x: Array) -> Array:
        def apply_block(residual: Array, block: ResidualBlock) -> tuple[Array, None]:
            return block(residual), None

        if self.rematerialisation == "block":
            apply_block = jax.checkpoint(apply_block, prevent_cse=False)
        return jax.lax.scan(apply_block, x, self.blocks, unroll=self.unroll)[0]

    def statistics(self, x: Array) -> tuple[Array, BlockStatistics]:
        """Apply the stack and return `(output, statistics per block)`."""

        def apply_block(residual: Array, block: ResidualBlock) -> tuple[Array, BlockStatistics]:
            branch = block.branch(residual)
            output = residual + branch[-1]
            return output, BlockStatistics(output, jnp.abs(jnp.stack(branch)).mean(axis=1))

        return jax.lax.scan(apply_block, x, self.blocks)


def apply_in_a_loop(stack: Stack, x: Array) -> Array:
    """The same function as `Stack.__call__`, one block after the other: the test's oracle."""
    for index in range(stack.num_blocks):
        x = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)(x)
    return x
