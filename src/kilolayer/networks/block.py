"""The pieces of a deep encoder: dense layer, normalisation and residual block.

All functions take a batch: `x` is `[..., width]`. Source: arXiv 2503.14858, section 3;
`Architecture` names the sources of the other choices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array

LAYER_NORM_EPSILON = 1e-6
# Gain of kernels without a norm after them. Uniform kernels up to sqrt(6 / fan_in) instead of
# sqrt(1 / fan_in) keep the scale of their input through a rectifier (arXiv 1502.01852, section
# 2.2). Where a norm follows, the scale does not matter.
UNNORMED_GAIN = 6**0.5

Norm = Literal["layer", "rms", "none", "hyperspherical"]
Residual = Literal["add", "interpolate", "none"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "swish": jax.nn.swish,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "linear": lambda x: x,
}


@dataclass(frozen=True)
class Architecture:
    """How the layers of a network are put together, at any depth and width.

    The defaults are those of arXiv 2503.14858.

    residual: how a block's output joins the residual stream: added, interpolated with learnt
    weights (arXiv 2502.15280), or in place of the stream. norm: see `normalise`. norm_position:
    `post` after every matrix product, `pre` once at the start of a block and before the output
    layer (2002.04745). branch_activation: whether the last layer of a block has an activation.
    expansion: hidden width inside a block divided by the residual width.
    """

    residual: Residual = "add"
    norm: Norm = "layer"
    norm_position: Literal["post", "pre"] = "post"
    activation: Literal["swish", "relu", "gelu"] = "swish"
    branch_activation: bool = True
    expansion: int = 1


PUBLISHED = Architecture()
Rematerialisation = Literal["none", "block", "nested"]


@dataclass(frozen=True)
class TorsoSpec:
    """Shape of the deep part of a network, a stack of blocks, and how it is computed.

    depth: Dense layers inside residual blocks; the input and output layers do not count.
    rematerialisation: which matrix products the backward pass recomputes; it always recomputes
    norms and activations. `none`: no product; the result of each is stored. `block`: the products
    of each block, so that one residual stream per block is stored. `nested`: the products of each
    segment of about sqrt(blocks) blocks and, inside it, of each block, so that two times
    sqrt(blocks) streams are stored. scan_unroll: blocks per iteration of the scan. compute_dtype:
    of the branches. The stream keeps the dtype of the input, because in bfloat16 it would lose the
    small branches of a deep stack. branch_scale: of every block; pruning and growing do not change
    it. lean: whether to use the gradients of `kilolayer.networks.lean`, which exist only for the
    published architecture without rematerialisation.
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


# Kernels `[fan_in, fan_out]`, uniform in +-1/sqrt(fan_in). The published code calls this LeCun
# uniform, which has scale 1 instead of 1/3.
fan_in_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def layer_norm(x: Array, scale: Array, offset: Array) -> Array:
    """Normalise the last axis in float32, then apply the learnt scale and offset `[width]`."""
    x32 = x.astype(jnp.float32)
    mean = x32.mean(-1, keepdims=True)
    variance = jnp.square(x32 - mean).mean(-1, keepdims=True)
    normed = (x32 - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return (normed * scale + offset).astype(x.dtype)


def rms_norm(x: Array) -> Array:
    """Onto a sphere of radius sqrt(width): the last axis divided by its rms, in float32."""
    x32 = x.astype(jnp.float32)
    return x32 * jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + LAYER_NORM_EPSILON)


def normalise(norm: Norm, x: Array, scale: Array | None, offset: Array | None) -> Array:
    """Normalise the last axis, with the learnt `scale` and `offset` of the norm, each `[width]`.

    layer: to mean 0 and standard deviation 1, then scale and offset. rms: to root mean square 1,
    then scale. hyperspherical: scale, then to root mean square 1, so that the scale rotates the
    features and they stay on their sphere.
    """
    if norm == "none":
        return x
    assert scale is not None
    if norm == "rms":
        return (rms_norm(x) * scale).astype(x.dtype)
    if norm == "hyperspherical":
        return rms_norm(x.astype(jnp.float32) * scale).astype(x.dtype)
    assert offset is not None
    return layer_norm(x, scale, offset)


def unit_columns(kernel: Array) -> Array:
    """Kernels `[..., fan_in, fan_out]`, scaled so that the column of each output has norm 1."""
    return kernel / jnp.linalg.norm(kernel, axis=-2, keepdims=True)


class Dense(eqx.Module):
    """Affine map of the last axis, `[..., fan_in] -> [..., fan_out]`."""

    kernel: Array
    bias: Array

    @staticmethod
    def init(key: Array, fan_in: int, fan_out: int) -> "Dense":
        return Dense(fan_in_uniform(key, (fan_in, fan_out)), jnp.zeros(fan_out))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel.astype(x.dtype) + self.bias.astype(x.dtype)


class NormedLayer(eqx.Module):
    """Dense, norm, activation: `[..., fan_in] -> [..., fan_out]`; `norm_first`: the norm first.

    In a hyperspherical layer the columns of the kernel have norm 1: at initialisation and, through
    `kilolayer.agents.optimiser`, after every update.
    """

    dense: Dense
    scale: Array | None = None
    offset: Array | None = None
    norm: Norm = eqx.field(static=True, default="layer")
    norm_first: bool = eqx.field(static=True, default=False)
    activation: str = eqx.field(static=True, default="swish")

    @staticmethod
    def init(
        key: Array,
        fan_in: int,
        fan_out: int,
        norm: Norm = "layer",
        norm_first: bool = False,
        activation: str = "swish",
    ) -> "NormedLayer":
        dense = Dense.init(key, fan_in, fan_out)
        normed = fan_in if norm_first else fan_out
        if norm == "hyperspherical":
            dense = Dense(unit_columns(dense.kernel), dense.bias)
        elif activation != "linear" and (norm_first or norm == "none"):
            dense = Dense(UNNORMED_GAIN * dense.kernel, dense.bias)
        return NormedLayer(
            dense,
            None if norm == "none" else jnp.ones(normed),
            jnp.zeros(normed) if norm == "layer" else None,
            norm,
            norm_first,
            activation,
        )

    def __call__(self, x: Array) -> Array:
        if self.norm_first:
            x = self.dense(normalise(self.norm, x, self.scale, self.offset))
        else:
            x = normalise(self.norm, self.dense(x), self.scale, self.offset)
        return ACTIVATIONS[self.activation](x)


class ResidualBlock(eqx.Module):
    """The branch F of a residual block: `layers` applied one after the other.

    interpolation: how far each unit of the stream moves towards F, divided by its initial value,
    `[width]`; None where branches are added.
    """

    layers: tuple[NormedLayer, ...]
    interpolation: Array | None = None

    @staticmethod
    def init(
        key: Array, num_layers: int, width: int, architecture: Architecture = PUBLISHED
    ) -> "ResidualBlock":
        pre = architecture.norm_position == "pre"
        inner = [architecture.expansion * width] * (num_layers - 1)
        widths = [width, *inner, width]

        def layer(index: int, key: Array) -> NormedLayer:
            last = index == num_layers - 1
            return NormedLayer.init(
                key,
                widths[index],
                widths[index + 1],
                norm="none" if pre and index > 0 else architecture.norm,
                norm_first=pre and index == 0,
                activation=(
                    "linear"
                    if last and not architecture.branch_activation
                    else architecture.activation
                ),
            )

        keys = jax.random.split(key, num_layers)
        return ResidualBlock(
            tuple(layer(index, key) for index, key in enumerate(keys)),
            jnp.ones(width) if architecture.residual == "interpolate" else None,
        )

    def branch(self, x: Array) -> tuple[Array, ...]:
        """The activations of every layer of F; the last one is F(x), `[..., width]`."""
        activations = []
        for layer in self.layers:
            x = layer(x)
            activations.append(x)
        return tuple(activations)
