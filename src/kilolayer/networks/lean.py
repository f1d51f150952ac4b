"""A gradient with few operations for published residual blocks, for several equal stacks at once.

On a GPU the launch of kernels limits a deep update, so the number of kernels decides its time. Here
the parameters of a block are two arrays and its forward pass stores one. The backward scan computes
only the gradient of the residual stream. The gradients of the parameters follow, for a segment of
blocks at once. `python -m benchmarks.nodes` counts the kernels.

Stacks that run together are called towers. Without differentiation each tower runs alone, and
nothing is packed.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kilolayer.networks.block import ResidualBlock, TorsoSpec, layer_norm
from kilolayer.types import Array

# The gradients of the parameters are computed for at most this number of blocks at once.
SEGMENT_BLOCKS = 16

Towers = tuple[ResidualBlock, ...]
"""The blocks of each stack; every leaf has a leading block axis."""


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

    def stack_leaves(leaf: Any) -> Array:
        return jnp.stack([jnp.stack([leaf(each) for each in layer], 1) for layer in layers], 1)

    vectors = (
        stack_leaves(lambda layer: layer.dense.bias),
        stack_leaves(lambda layer: layer.scale),
        stack_leaves(lambda layer: layer.offset),
    )
    return Packed(
        stack_leaves(lambda layer: layer.dense.kernel), jnp.stack(vectors, 2)[..., None, :]
    )


def apply_towers(torso: TorsoSpec, towers: Towers, x: Array) -> Array:
    """Each tower's blocks on its own stream: `[towers, batch, width] -> same`. torso: of each."""
    output: Any = _apply(torso, towers, x)
    return output


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apply(torso: TorsoSpec, towers: Towers, x: Array) -> Array:
    def apply_block(stream: Array, block: ResidualBlock) -> tuple[Array, None]:
        branch = block.branch(stream.astype(torso.compute_dtype))[-1]
        return stream + torso.branch_scale * branch.astype(stream.dtype), None

    streams = [
        jax.lax.scan(apply_block, stream, tower, unroll=torso.scan_unroll)[0]
        for tower, stream in zip(towers, x, strict=True)
    ]
    return jnp.stack(streams)


def _activate(product: Array, vectors: Array) -> Array:
    """A layer without its matrix product: `[towers, batch, width]` with `[3, towers, 1, width]`."""
    bias, scale, offset = vectors
    return jax.nn.swish(layer_norm(product + bias.astype(product.dtype), scale, offset))


def _forward(torso: TorsoSpec, towers: Any, x: Any) -> tuple[Array, Any]:
    """The output, and residuals for the backward pass. Leaves know if they are differentiated."""
    learnable = any(leaf.perturbed for leaf in jax.tree.leaves(towers, is_leaf=_is_primal))
    towers = jax.tree.map(lambda leaf: leaf.value, towers, is_leaf=_is_primal)
    packed = pack(towers)

    def apply_block(stream: Array, block: Packed) -> tuple[Array, Array]:
        x = stream.astype(torso.compute_dtype)
        stored = [x]
        for kernel, vectors in zip(block.kernels, block.vectors, strict=True):
            stored.append(x @ kernel.astype(x.dtype))
            x = _activate(stored[-1], vectors)
        return stream + torso.branch_scale * x.astype(stream.dtype), jnp.stack(stored)

    output, stored = jax.lax.scan(apply_block, x.value, packed, unroll=torso.scan_unroll)
    # Whether parameters are differentiated must be known while tracing, so None marks a constant.
    return output, (packed, stored, towers if learnable else None)


def _backward(torso: TorsoSpec, residuals: Any, gradient: Array) -> tuple[Towers | None, Array]:
    """Gradients of the towers, None if no tower learns, and of their inputs."""
    packed, stored, towers = residuals

    def segment_backward(gradient: Array, segment: Any) -> tuple[Array, Packed | None]:
        packed, stored = segment
        gradient, activation_gradients = jax.lax.scan(
            partial(_block_backward, torso),
            gradient,
            segment,
            reverse=True,
            unroll=torso.scan_unroll,
        )
        if towers is None:
            return gradient, None
        return gradient, _parameter_gradients(packed.vectors, stored, activation_gradients)

    blocks = len(stored)
    length = segment_length(blocks)
    segments = jax.tree.map(lambda a: a.reshape(-1, length, *a.shape[1:]), (packed, stored))
    gradient, packed_gradients = jax.lax.scan(segment_backward, gradient, segments, reverse=True)
    if towers is None:
        return None, gradient
    packed_gradients = jax.tree.map(lambda a: a.reshape(blocks, *a.shape[2:]), packed_gradients)
    (tower_gradients,) = jax.linear_transpose(pack, towers)(packed_gradients)
    return tower_gradients, gradient


def segment_length(blocks: int) -> int:
    """The largest divisor that is no more than SEGMENT_BLOCKS: equal segments need no copies."""
    return max(length for length in range(1, SEGMENT_BLOCKS + 1) if blocks % length == 0)


def _block_backward(
    torso: TorsoSpec, gradient: Array, block: tuple[Packed, Array]
) -> tuple[Array, Array]:
    """The gradients of the stream before a block and of every layer's output,
    `[layers, towers, batch, width]`."""
    (kernels, vectors), stored = block
    output_gradient = (torso.branch_scale * gradient).astype(torso.compute_dtype)
    output_gradients = []
    for layer in reversed(range(len(kernels))):
        output_gradients.append(output_gradient)
        _, vjp = jax.vjp(lambda p, v=vectors[layer]: _activate(p, v), stored[layer + 1])
        (product_gradient,) = vjp(output_gradient)
        output_gradient = product_gradient @ kernels[layer].astype(product_gradient.dtype).mT
    return gradient + output_gradient.astype(gradient.dtype), jnp.stack(output_gradients[::-1])


def _parameter_gradients(vectors: Array, stored: Array, activation_gradients: Array) -> Packed:
    """The gradients of the parameters of several blocks; the leading axes are blocks and layers."""
    activate = jax.vmap(jax.vmap(_activate))
    activations, vjp = jax.vjp(activate, stored[:, 1:], vectors)
    product_gradients, vector_gradients = vjp(activation_gradients)
    inputs = jnp.concatenate([stored[:, :1], activations[:, :-1]], 1)
    kernel_gradients = jnp.einsum(
        "nltbi,nltbo->nltio", inputs, product_gradients, preferred_element_type=jnp.float32
    )
    return Packed(kernel_gradients, vector_gradients)


def _is_primal(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


_apply.defvjp(_forward, _backward, symbolic_zeros=True)
