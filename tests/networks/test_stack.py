"""The scanned stack against its loop twin, what rematerialisation keeps, and the block axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.stack import Stack, apply_in_a_loop

WIDTH = 8


def make_stack(num_blocks: int, **options) -> Stack:
    """A stack whose biases, scales and offsets are random too, so that all of them matter."""
    stack = Stack.init(jax.random.key(0), num_blocks, 2, WIDTH, **options)
    leaves, structure = jax.tree.flatten(stack)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def value_and_gradients(apply, stack, x):
    def total(stack, x):
        output = apply(stack, x)
        return jnp.square(output).mean(), output

    (_, output), gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(
        stack, x
    )
    return output, gradients


@pytest.mark.parametrize("rematerialisation", ["none", "block"])
@pytest.mark.parametrize(("num_blocks", "unroll"), [(1, 1), (3, 2), (8, 1), (8, 4)])
def test_scan_equals_the_loop_in_values_and_gradients(
    num_blocks, unroll, rematerialisation, normal
):
    stack = make_stack(num_blocks, rematerialisation=rematerialisation, unroll=unroll)
    x = normal(2, 5, WIDTH)
    output, gradients = value_and_gradients(Stack.__call__, stack, x)
    expected, expected_gradients = value_and_gradients(apply_in_a_loop, stack, x)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        assert float(jnp.abs(theirs).max()) > 0
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_block_rematerialisation_stores_the_stream_alone(normal):
    """Peak temporary memory of a gradient at depth 64: 4 layers of 3 arrays against one stream."""

    def temporary_bytes(rematerialisation: str) -> int:
        stack = Stack.init(jax.random.key(0), 16, 4, 32, rematerialisation)
        gradient = jax.jit(jax.grad(lambda stack, x: stack(x).sum()))
        compiled = gradient.lower(stack, normal(0, 256, 32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept, recomputed = temporary_bytes("none"), temporary_bytes("block")
    stream = 16 * 256 * 32 * 4
    assert kept > 4 * stream
    assert recomputed < 0.5 * kept


@pytest.mark.parametrize("unroll", [1, 3])
def test_slicing_the_block_axis_prunes_the_stack(unroll, normal):
    stack = make_stack(5, unroll=unroll)
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(stack))
    keep = np.array([0, 2, 4])
    pruned = jax.tree.map(lambda leaf: leaf[keep], stack)
    x = normal(3, 4, WIDTH)
    expected = x
    for index in keep:
        expected = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)(expected)
    assert pruned.num_blocks == 3
    np.testing.assert_allclose(pruned(x), expected, atol=1e-5)


def test_concatenating_the_block_axis_grows_the_stack(normal):
    first, second, x = make_stack(2), make_stack(3), normal(3, 4, WIDTH)
    grown = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    np.testing.assert_allclose(grown(x), second(first(x)), atol=1e-5)


def test_statistics_show_every_block(normal):
    stack, x = make_stack(3), normal(4, 6, WIDTH)
    output, statistics = stack.statistics(x)
    np.testing.assert_allclose(output, stack(x), atol=1e-5)
    for index in range(3):
        block = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)
        branch = np.stack(block.branch(x))
        np.testing.assert_allclose(
            statistics.activity[index], np.abs(branch).mean(axis=1), atol=1e-5
        )
        x = block(x)
        np.testing.assert_allclose(statistics.residual[index], x, atol=1e-5)


def test_blocks_are_drawn_from_different_keys():
    kernels = Stack.init(jax.random.key(0), 3, 2, WIDTH).blocks.layers
    drawn = np.concatenate([np.asarray(layer.dense.kernel) for layer in kernels])
    assert len(np.unique(drawn[:, 0, 0])) == 6
