"""Encoders: input layer, deep residual stack, output layer; twin critics; several at once."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.networks.block import Dense, NormedLayer, TorsoSpec
from kilolayer.networks.lean import apply_towers
from kilolayer.networks.stack import BlockStatistics, Stack
from kilolayer.types import Array


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
            stack=Stack.init(middle, torso),
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


class TwinCritic(eqx.Module):
    """Two Q networks of (observation, action, goal) that run as one batched stack.

    The smaller of their values limits the overestimation of each (arXiv 1802.09477, section 4.2).
    """

    encoders: Encoder  # every leaf has a leading axis of two

    @staticmethod
    def init(key: Array, input_dim: int, torso: TorsoSpec) -> "TwinCritic":
        """input_dim: total size of observation, action and goal."""

        def init_one(key: Array) -> Encoder:
            return Encoder.init(key, input_dim, 1, torso)

        return TwinCritic(jax.vmap(init_one)(jax.random.split(key, 2)))

    def __call__(self, observation: Array, action: Array, goal: Array) -> Array:
        """Values `[2, ...]` of rows `[..., dim]`."""
        inputs = jnp.concatenate([observation, action, goal], -1)
        return jax.vmap(lambda encoder: encoder(inputs)[..., 0])(self.encoders)

    def first(self, observation: Array, action: Array, goal: Array) -> Array:
        """Values `[...]` of the first network; the second does not run."""
        inputs = jnp.concatenate([observation, action, goal], -1)
        return self.split()[0](inputs)[..., 0]

    def split(self) -> list[Encoder]:
        """The two networks as separate encoders."""
        return [
            jax.tree.map(lambda leaf, index=index: leaf[index], self.encoders) for index in range(2)
        ]


def apply_together(encoders: Sequence[Encoder], inputs: Sequence[Array]) -> list[Array]:
    """The output of each encoder on its own inputs `[batch, input]`, as if each ran alone.

    Equal stacks with a lean gradient share one scan. A stack that differs in depth, width or batch
    size, or has no lean gradient, has a scan of its own.
    """
    streams = [encoder.embed(x) for encoder, x in zip(encoders, inputs, strict=True)]
    groups: dict[Any, list[int]] = {}
    for index, (encoder, stream) in enumerate(zip(encoders, streams, strict=True)):
        groups.setdefault(_scan_key(index, encoder, stream), []).append(index)
    for members in groups.values():
        stacks = [encoders[index].stack for index in members]
        if len(members) == 1:
            outputs = [stacks[0](streams[members[0]])]
        else:
            stacked = jnp.stack([streams[index] for index in members])
            outputs = apply_towers(stacks[0].torso, tuple(s.blocks for s in stacks), stacked)
        for index, stream in zip(members, outputs, strict=True):
            streams[index] = stream
    return [encoder.outputs(stream) for encoder, stream in zip(encoders, streams, strict=True)]


def _scan_key(index: int, encoder: Encoder, stream: Array) -> Any:
    """A key that is equal for stacks that can share a scan."""
    if not encoder.stack.torso.lean:
        return index
    leaves, structure = jax.tree.flatten(encoder.stack)
    return structure, tuple(leaf.shape for leaf in leaves), stream.shape
