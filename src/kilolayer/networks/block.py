"""The pieces of a deep encoder: dense layer, layer normalisation and residual block.

All functions take a batch: `x` is `[..., width]`. Source: arXiv 2503.14858, section 3.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array

LAYER_NORM_EPSILON = 1e-6


def fan_in_uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw kernels `[..., fan_in, fan_out]` uniformly in +-1/sqrt(fan_in)."""
    bound = 1.0 / jnp.sqrt(shape[-2])
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def layer_norm(x: Array, scale: Array, offset: Array) -> Array:
    """Normalise the last axis in float32, then apply the learnt scale and offset `[width]`."""
    x32 = x.astype(jnp.float32)
    mean = x32.mean(-1, keepdims=True)
    variance = jnp.square(x32 - mean).mean(-1, keepdims=True)
    normed = (x32 - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return (normed * scale + offset).astype(x.dtype)


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
    """Dense, LayerNorm, Swish: `[..., fan_in] -> [..., fan_out]`."""

    dense: Dense
    scale: Array
    offset: Array

    @staticmethod
    def init(key: Array, fan_in: int, fan_out: int) -> "NormedLayer":
        return NormedLayer(Dense.init(key, fan_in, fan_out), jnp.ones(fan_out), jnp.zeros(fan_out))

    def __call__(self, x: Array) -> Array:
        return jax.nn.swish(layer_norm(self.dense(x), self.scale, self.offset))


class ResidualBlock(eqx.Module):
    """The branch F of a residual block: `layers` one after the other."""

    layers: tuple[NormedLayer, ...]

    @staticmethod
    def init(key: Array, num_layers: int, width: int) -> "ResidualBlock":
        keys = jax.random.split(key, num_layers)
        return ResidualBlock(tuple(NormedLayer.init(k, width, width) for k in keys))

    def branch(self, x: Array) -> tuple[Array, ...]:
        """The activations of every layer of F, each `[..., width]`; the last one is F(x)."""
        activations = []
        for layer in self.layers:
            x = layer(x)
            activations.append(x)
        return tuple(activations)
