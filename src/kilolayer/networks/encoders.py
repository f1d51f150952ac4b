"""Encoders: input layer, deep residual stack, output layer."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax

from kilolayer.networks.block import PUBLISHED, Architecture, Dense, NormedLayer
from kilolayer.networks.stack import BlockStatistics, Rematerialisation, Stack
from kilolayer.types import Array


@dataclass(frozen=True)
class TorsoSpec:
    """Shape of the deep part of a network.

    depth counts the Dense layers inside residual blocks, `num_blocks * layers_per_block`; the
    input and output layers do not count.
    """

    depth: int
    width: int
    layers_per_block: int = 4
    rematerialisation: Rematerialisation = "none"
    scan_unroll: int = 1
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    branch_scale: float = 1.0
    architecture: Architecture = PUBLISHED
    lean: bool = False

    @property
    def num_blocks(self) -> int:
        return self.depth // self.layers_per_block


class Encoder(eqx.Module):
    """Dense, LayerNorm, Swish; the stack; Dense. `[batch, input] -> [batch, output]`.

    Parameters, residual stream, input and output layer are float32; the blocks compute in
    `compute_dtype`. Inputs are float32 because they may be positions in metres. With pre-norm
    blocks the stream starts as the plain matrix product, and a norm precedes the output. A
    hyperspherical stream starts without activation.
    Source: arXiv 2503.14858, section 3.
    """

    inputs: NormedLayer
    stack: Stack
    outputs: Dense | NormedLayer

    @staticmethod
    def init(key: Array, input_dim: int, output_dim: int, torso: TorsoSpec) -> "Encoder":
        first, middle, last = jax.random.split(key, 3)
        architecture, norm = torso.architecture, torso.architecture.norm
        pre = architecture.norm_position == "pre"
        linear = pre or norm == "hyperspherical"
        return Encoder(
            inputs=NormedLayer.init(
                first,
                input_dim,
                torso.width,
                norm="none" if pre else norm,
                activation="linear" if linear else architecture.activation,
            ),
            stack=Stack.init(
                middle,
                torso.num_blocks,
                torso.layers_per_block,
                torso.width,
                torso.rematerialisation,
                torso.scan_unroll,
                torso.branch_scale,
                torso.compute_dtype,
                architecture,
                torso.lean,
            ),
            outputs=(
                NormedLayer.init(last, torso.width, output_dim, norm, True, "linear")
                if pre
                else Dense.init(last, torso.width, output_dim)
            ),
        )

    def embed(self, x: Array) -> Array:
        """The residual stream before the first block, `[batch, width]`."""
        return self.inputs(x)

    def __call__(self, x: Array) -> Array:
        return self.outputs(self.stack(self.embed(x)))

    def statistics(self, x: Array) -> BlockStatistics:
        """Statistics of every block on the inputs `x`, for the depth diagnostics."""
        return self.stack.statistics(self.embed(x))[1]
