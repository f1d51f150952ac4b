"""The scanned stack against its loop twin, what rematerialisation keeps, and the block axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.stack import Stack, apply_in_a_loop

WIDTH = 8


@pytest.fixture
def make_stack(random_module):
    """`make_stack(num_blocks, rematerialisation, unroll)`: equal parameters for equal shapes."""

    def make(num_blocks: int, rematerialisation="none", unroll=1) -> Stack:
        return random_module(Stack.init, num_blocks, 2, WIDTH, rematerialisation, unroll)

    return make


def value_and_gradients(apply, stack, x):
    def total(stack, x):
        output = apply(stack, x)
        return jnp.square(output).mean(), output

    gradient = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    (_, output), gradients = jax.jit(gradient)(stack, x)
    return output, jax.tree.leaves(gradients)


@pytest.mark.parametrize(
    ("num_blocks", "variants"),
    [(1, [("none", 1), ("block", 1)]), (4, [("none", 1), ("none", 3), ("block", 2)])],
)
def test_scan_equals_the_loop_in_values_and_gradients(num_blocks, variants, make_stack, normal):
    x = normal(2, 5, WIDTH)
    expected, expected_gradients = value_and_gradients(apply_in_a_loop, make_stack(num_blocks), x)
    for rematerialisation, unroll in variants:
        stack = make_stack(num_blocks, rematerialisation, unroll)
        output, gradients = value_and_gradients(Stack.__call__, stack, x)
        np.testing.assert_allclose(output, expected, atol=1e-5)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert float(jnp.abs(theirs).max()) > 0
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_block_rematerialisation_stores_the_stream_alone(random_module, normal):
    """Peak temporary memory of a gradient at depth 64: 4 layers of 3 arrays against one stream."""

    def temporary_bytes(rematerialisation: str) -> int:
        stack = random_module(Stack.init, 16, 4, 32, rematerialisation)
        gradient = jax.jit(jax.grad(lambda stack, x: stack(x).sum()))
        compiled = gradient.lower(stack, normal(0, 256, 32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept, recomputed = temporary_bytes("none"), temporary_bytes("block")
    stream = 16 * 256 * 32 * 4
    assert kept > 4 * stream
    assert recomputed < 0.5 * kept


@pytest.mark.parametrize("unroll", [1, 3])
def test_slicing_the_block_axis_prunes_the_stack(unroll, make_stack, normal):
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


def test_concatenating_the_block_axis_grows_the_stack(make_stack, normal):
    first, x = make_stack(2), normal(3, 4, WIDTH)
    second = jax.tree.map(jnp.negative, first)
    grown = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    np.testing.assert_allclose(grown(x), second(first(x)), atol=1e-5)


def test_statistics_show_every_block(make_stack, normal):
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
