"""A gradient with few operations for published residual blocks, for several equal stacks at once.

On a GPU a deep update waits for kernels to start, so the number of kernels decides its time. Here
the parameters of a block are two arrays and its forward pass stores one. The backward scan computes
only the gradient of the residual stream. The gradients of the parameters follow, for a segment of
blocks at once. `python -m benchmarks.nodes` counts the kernels.

Stacks that run together are called towers. Without differentiation each tower runs alone, and
nothing is packed.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kilolayer.networks.block import ResidualBlock, layer_norm
from kilolayer.types import Array

# The gradients of the parameters are computed for at most this number of blocks at once.
SEGMENT_BLOCKS = 16

Towers = tuple[ResidualBlock, ...]
"""The blocks of each stack; every leaf has a leading block axis."""


@dataclass(frozen=True)
class Scan:
    """What the towers share; see `Stack` for the fields."""

    branch_scale: float
    compute_dtype: str
    unroll: int


class Packed(NamedTuple):
    """The parameters of all towers.

    kernels: `[blocks, layers, towers, width, width]`. vectors: bias, scale and offset,
    `[blocks, layers, 3, towers, 1, width]`.
    """

    kernels: Array
    vectors: Array


def pack(towers: Towers) -> Packed:
    """The towers' parameters, copied."""
    layers = list(zip(*(tower.layers for tower in towers), strict=True))

    def together(leaf: Any) -> Array:
        return jnp.stack([jnp.stack([leaf(each) for each in layer], 1) for layer in layers], 1)

    vectors = (
        together(lambda layer: layer.dense.bias),
        together(lambda layer: layer.scale),
        together(lambda layer: layer.offset),
    )
    return Packed(together(lambda layer: layer.dense.kernel), jnp.stack(vectors, 2)[..., None, :])


def apply_towers(how: Scan, towers: Towers, x: Array) -> Array:
    """Each tower's blocks on its own stream: `[towers, batch, width] -> same`."""
    output: Any = _apply(how, towers, x)
    return output


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(how: Scan, towers: Towers, x: Array) -> Array:
    def apply_block(stream: Array, block: ResidualBlock) -> tuple[Array, None]:
        branch = block.branch(stream.astype(how.compute_dtype))[-1]
        return stream + how.branch_scale * branch.astype(stream.dtype), None

    streams = [
        jax.lax.scan(apply_block, stream, tower, unroll=how.unroll)[0]
        for tower, stream in zip(towers, x, strict=True)
    ]
    return jnp.stack(streams)


def _activate(product: Array, vectors: Array) -> Array:
    """A layer without its matrix product: `[towers, batch, width]` with `[3, towers, 1, width]`."""
    bias, scale, offset = vectors
    return jax.nn.swish(layer_norm(product + bias.astype(product.dtype), scale, offset))


def _forward(how: Scan, towers: Any, x: Any) -> tuple[Array, Any]:
    """The output, and what the backward pass needs. Leaves record if they are differentiated."""
    learns = any(leaf.perturbed for leaf in jax.tree.leaves(towers, is_leaf=_is_primal))
    towers = jax.tree.map(lambda leaf: leaf.value, towers, is_leaf=_is_primal)
    packed = pack(towers)

    def apply_block(stream: Array, block: Packed) -> tuple[Array, Array]:
        x = stream.astype(how.compute_dtype)
        stored = [x]
        for kernel, vectors in zip(block.kernels, block.vectors, strict=True):
            stored.append(x @ kernel.astype(x.dtype))
            x = _activate(stored[-1], vectors)
        return stream + how.branch_scale * x.astype(stream.dtype), jnp.stack(stored)

    output, stored = jax.lax.scan(apply_block, x.value, packed, unroll=how.unroll)
    # Whether parameters are differentiated must be known while tracing: None says so without an
    # array.
    return output, (packed, stored, towers if learns else None)


def _backward(how: Scan, kept: Any, gradient: Array) -> tuple[Towers | None, Array]:
    """Gradients of the towers, None if no tower learns, and of their inputs."""
    packed, stored, towers = kept

    def through_segment(gradient: Array, segment: Any) -> tuple[Array, Packed | None]:
        packed, stored = segment
        gradient, of_activations = jax.lax.scan(
            partial(_through_block, how), gradient, segment, reverse=True, unroll=how.unroll
        )
        if towers is None:
            return gradient, None
        return gradient, _of_parameters(packed.vectors, stored, of_activations)

    blocks = len(stored)
    length = segment_length(blocks)
    segments = jax.tree.map(lambda a: a.reshape(-1, length, *a.shape[1:]), (packed, stored))
    gradient, found = jax.lax.scan(through_segment, gradient, segments, reverse=True)
    if towers is None:
        return None, gradient
    found = jax.tree.map(lambda a: a.reshape(blocks, *a.shape[2:]), found)
    (of_towers,) = jax.linear_transpose(pack, towers)(found)
    return of_towers, gradient


def segment_length(blocks: int) -> int:
    """The largest divisor that is no more than SEGMENT_BLOCKS: equal segments need no copies."""
    return max(length for length in range(1, SEGMENT_BLOCKS + 1) if blocks % length == 0)


def _through_block(how: Scan, gradient: Array, block: tuple[Packed, Array]) -> tuple[Array, Array]:
    """The gradients of the stream before a block and of every layer's output,
    `[layers, towers, batch, width]`."""
    (kernels, vectors), stored = block
    of_output = (how.branch_scale * gradient).astype(how.compute_dtype)
    found = []
    for layer in reversed(range(len(kernels))):
        found.append(of_output)
        _, back = jax.vjp(lambda p, v=vectors[layer]: _activate(p, v), stored[layer + 1])
        (of_product,) = back(of_output)
        of_output = of_product @ kernels[layer].astype(of_product.dtype).mT
    return gradient + of_output.astype(gradient.dtype), jnp.stack(found[::-1])


def _of_parameters(vectors: Array, stored: Array, of_activations: Array) -> Packed:
    """The gradients of the parameters of several blocks; the leading axes are blocks and layers."""
    activate = jax.vmap(jax.vmap(_activate))
    activations, back = jax.vjp(activate, stored[:, 1:], vectors)
    of_products, of_vectors = back(of_activations)
    inputs = jnp.concatenate([stored[:, :1], activations[:, :-1]], 1)
    of_kernels = jnp.einsum(
        "nltbi,nltbo->nltio", inputs, of_products, preferred_element_type=jnp.float32
    )
    return Packed(of_kernels, of_vectors)


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


_apply.defvjp(_forward, _backward, symbolic_zeros=True)
