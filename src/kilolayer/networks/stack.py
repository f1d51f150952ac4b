"""The deep residual stack: blocks stacked along axis 0 and applied with `lax.scan`.

Trace and compile time do not grow with depth. Because the block axis is axis 0 of every leaf,
pruning is `leaf[keep]` and growing is a concatenation, on parameters and optimiser state alike.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.block import PUBLISHED, ResidualBlock, TorsoSpec, rms_norm
from kilolayer.networks.lean import apply_towers
from kilolayer.types import Array

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
    """

    blocks: ResidualBlock  # every leaf has a leading block axis
    torso: TorsoSpec = eqx.field(static=True)

    @staticmethod
    def init(key: Array, torso: TorsoSpec) -> "Stack":
        if torso.lean and (torso.architecture != PUBLISHED or torso.rematerialisation != "none"):
            raise ValueError("Only published blocks without rematerialisation have lean gradients.")

        def init_block(key: Array) -> ResidualBlock:
            return ResidualBlock.init(key, torso.layers_per_block, torso.width, torso.architecture)

        return Stack(jax.vmap(init_block)(jax.random.split(key, torso.num_blocks)), torso)

    @property
    def num_blocks(self) -> int:
        return self.blocks.layers[0].dense.kernel.shape[0]

    def __call__(self, x: Array) -> Array:
        if self.torso.lean:
            rows = x.reshape(1, -1, x.shape[-1])
            return apply_towers(self.torso, (self.blocks,), rows).reshape(x.shape)

        def apply_block(residual: Array, block: ResidualBlock) -> tuple[Array, None]:
            return self._step(residual, block)[0], None

        policy = PRODUCTS_STORED if self.torso.rematerialisation == "none" else None
        apply_block = jax.checkpoint(apply_block, policy=policy, prevent_cse=False)

        def apply_blocks(residual: Array, blocks: ResidualBlock) -> tuple[Array, None]:
            return jax.lax.scan(apply_block, residual, blocks, unroll=self.torso.scan_unroll)

        if self.torso.rematerialisation != "nested":
            return apply_blocks(x, self.blocks)[0]
        length = segment_length(self.num_blocks)
        segments = jax.tree.map(lambda leaf: leaf.reshape(-1, length, *leaf.shape[1:]), self.blocks)
        return jax.lax.scan(jax.checkpoint(apply_blocks, prevent_cse=False), x, segments)[0]

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
        torso = self.torso
        branch = block.branch(residual.astype(torso.compute_dtype))
        output = branch[-1].astype(residual.dtype)
        if torso.architecture.residual == "add":
            output = residual + torso.branch_scale * output
        elif block.interpolation is not None:
            output = residual + torso.branch_scale * block.interpolation * (output - residual)
        if torso.architecture.norm == "hyperspherical":
            output = rms_norm(output)
        return output, branch


def segment_length(num_blocks: int) -> int:
    """The divisor of `num_blocks` nearest its square root: equal segments need no copies.

    For a prime number it is 1, and `nested` saves no more than `block`.
    """
    divisors = [length for length in range(1, num_blocks + 1) if num_blocks % length == 0]
    return min(divisors, key=lambda length: max(length, num_blocks // length))
