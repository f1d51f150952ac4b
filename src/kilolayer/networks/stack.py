"""The deep residual stack: blocks stacked along axis 0 and applied with `lax.scan`.

Trace and compile time do not grow with depth. Because the block axis is axis 0 of every leaf,
pruning is `leaf[keep]` and growing is a concatenation, on parameters and optimiser state alike.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.block import PUBLISHED, Architecture, ResidualBlock, rms_norm
from kilolayer.networks.lean import ScanSettings, apply_towers
from kilolayer.types import Array

Rematerialisation = Literal["none", "block", "nested"]

# Norms and activations are recomputed, because storing and loading them takes longer.
PRODUCTS_STORED = jax.checkpoint_policies.dots_saveable


class BlockStatistics(eqx.Module):
    """Statistics of each block in a forward pass; every leaf has a leading block axis.

    residual: the residual stream after the block, `[blocks, batch, width]`.
    activity: mean absolute activation of every unit, `[blocks, units]` for each layer of a block.
    """

    residual: Array
    activity: tuple[Array, ...]


class Stack(eqx.Module):
    """A sequence of equal residual blocks `x + branch_scale * F(x)`, `[batch, width] -> same`.

    Other architectures: `x + branch_scale * interpolation * (F(x) - x)` if blocks interpolate, F(x)
    without residual connections. Hyperspherical streams are projected back to their sphere.

    rematerialisation: which matrix products the backward pass recomputes; it always recomputes
    norms and activations. `none`: no product; the result of each is stored. `block`: the products
    of each block, so that one residual stream per block is stored. `nested`: the products of each
    segment of about sqrt(blocks) blocks and, inside it, of each block, so that two times
    sqrt(blocks) streams are stored. unroll: blocks per iteration of the scan. compute_dtype: of the
    branches. The stream keeps the dtype of the input, because in bfloat16 it would lose the small
    branches of a deep stack. lean: whether to use the gradients of `kilolayer.networks.lean`, which
    exist only for the published architecture without rematerialisation. The scale belongs to the
    stack, so pruning and growing do not change it.
    """

    blocks: ResidualBlock  # every leaf has a leading block axis
    rematerialisation: Rematerialisation = eqx.field(static=True)
    unroll: int = eqx.field(static=True)
    branch_scale: float = eqx.field(static=True)
    compute_dtype: str = eqx.field(static=True)
    architecture: Architecture = eqx.field(static=True)
    lean: bool = eqx.field(static=True, default=False)

    @staticmethod
    def init(
        key: Array,
        num_blocks: int,
        layers_per_block: int,
        width: int,
        rematerialisation: Rematerialisation = "none",
        unroll: int = 1,
        branch_scale: float = 1.0,
        compute_dtype: str = "float32",
        architecture: Architecture = PUBLISHED,
        lean: bool = False,
    ) -> "Stack":
        if lean and (architecture != PUBLISHED or rematerialisation != "none"):
            raise ValueError("Only published blocks without rematerialisation have lean gradients.")

        def init_block(key: Array) -> ResidualBlock:
            return ResidualBlock.init(key, layers_per_block, width, architecture)

        blocks = jax.vmap(init_block)(jax.random.split(key, num_blocks))
        return Stack(
            blocks, rematerialisation, unroll, branch_scale, compute_dtype, architecture, lean
        )

    @property
    def num_blocks(self) -> int:
        return self.blocks.layers[0].dense.kernel.shape[0]

    def __call__(self, x: Array) -> Array:
        if self.lean:
            rows = x.reshape(1, -1, x.shape[-1])
            return apply_towers(self.scan_settings, (self.blocks,), rows).reshape(x.shape)

        def apply_block(residual: Array, block: ResidualBlock) -> tuple[Array, None]:
            return self._step(residual, block)[0], None

        policy = PRODUCTS_STORED if self.rematerialisation == "none" else None
        apply_block = jax.checkpoint(apply_block, policy=policy, prevent_cse=False)

        def apply_blocks(residual: Array, blocks: ResidualBlock) -> tuple[Array, None]:
            return jax.lax.scan(apply_block, residual, blocks, unroll=self.unroll)

        if self.rematerialisation != "nested":
            return apply_blocks(x, self.blocks)[0]
        length = segment_length(self.num_blocks)
        segments = jax.tree.map(lambda leaf: leaf.reshape(-1, length, *leaf.shape[1:]), self.blocks)
        return jax.lax.scan(jax.checkpoint(apply_blocks, prevent_cse=False), x, segments)[0]

    @property
    def scan_settings(self) -> ScanSettings:
        """The settings that stacks must share to run with one lean gradient."""
        return ScanSettings(self.branch_scale, self.compute_dtype, self.unroll)

    def apply_block(self, index: Array | int, x: Array) -> Array:
        """The stream after block number `index`, which may be traced, `[batch, width] -> same`."""
        return self._step(x, jax.tree.map(lambda leaf: leaf[index], self.blocks))[0]

    def statistics(self, x: Array) -> tuple[Array, BlockStatistics]:
        """Apply the stack and return `(output, statistics per block)`."""

        def apply_block(residual: Array, block: ResidualBlock) -> tuple[Array, BlockStatistics]:
            output, branch = self._step(residual, block)
            activity = tuple(jnp.abs(activation).mean(axis=0) for activation in branch)
            return output, BlockStatistics(output, activity)

        return jax.lax.scan(apply_block, x, self.blocks)

    def _step(self, residual: Array, block: ResidualBlock) -> tuple[Array, tuple[Array, ...]]:
        """The stream after one block, and the activations of every layer of its branch."""
        branch = block.branch(residual.astype(self.compute_dtype))
        output = branch[-1].astype(residual.dtype)
        if self.architecture.residual == "add":
            output = residual + self.branch_scale * output
        elif block.interpolation is not None:
            output = residual + self.branch_scale * block.interpolation * (output - residual)
        if self.architecture.norm == "hyperspherical":
            output = rms_norm(output)
        return output, branch


def segment_length(num_blocks: int) -> int:
    """The divisor of `num_blocks` nearest its square root: equal segments need no copies.

    For a prime number it is 1, and `nested` saves no more than `block`.
    """
    divisors = [length for length in range(1, num_blocks + 1) if num_blocks % length == 0]
    return min(divisors, key=lambda length: max(length, num_blocks // length))
