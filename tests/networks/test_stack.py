"""The scanned stack against its loop twin, what rematerialisation keeps, and the block axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.block import TorsoSpec
from kilolayer.networks.config import ARRAYS_PER_LAYER
from kilolayer.networks.stack import Stack, segment_length
from oracles import apply_in_a_loop

WIDTH = 8


@pytest.fixture
def make_stack(random_module):
    """`make_stack(num_blocks, rematerialisation, unroll, scale)`: equal parameters for equal
    shapes."""

    def make(num_blocks: int, rematerialisation="none", unroll=1, scale=1.0) -> Stack:
        torso = TorsoSpec(2 * num_blocks, WIDTH, 2, rematerialisation, unroll, branch_scale=scale)
        return random_module(Stack.init, torso)

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
    [
        (1, [("none", 1), ("block", 1), ("nested", 1)]),
        (4, [("none", 1), ("none", 3), ("block", 2), ("nested", 1)]),
        (6, [("nested", 2)]),
    ],
)
def test_scan_equals_the_loop_in_values_and_gradients(num_blocks, variants, make_stack, normal):
    x = normal(2, 5, WIDTH)
    alone = make_stack(num_blocks, scale=0.5)
    expected, expected_gradients = value_and_gradients(apply_in_a_loop, alone, x)
    for rematerialisation, unroll in variants:
        stack = make_stack(num_blocks, rematerialisation, unroll, scale=0.5)
        output, gradients = value_and_gradients(Stack.__call__, stack, x)
        np.testing.assert_allclose(output, expected, atol=1e-5)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert float(jnp.abs(theirs).max()) > 0
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rematerialisation_stores_the_stated_activations(random_module, normal):
    """Temporary memory of a gradient at depth 256, in residual streams `[batch, width]`.

    none keeps the product of every layer, ARRAYS_PER_LAYER with all the rest, by which
    `TrainSchedule` chooses; block one stream of each of the 64 blocks; nested 8 of the segments and
    8 within one.
    """

    def streams(rematerialisation: str) -> float:
        stack = random_module(Stack.init, TorsoSpec(256, 16, 4, rematerialisation))
        gradient = jax.jit(jax.grad(lambda stack, x: jnp.square(stack(x)).sum()))
        compiled = gradient.lower(stack, normal(0, 512, 16)).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (512 * 16 * 4)

    kept, block, nested = map(streams, ("none", "block", "nested"))
    assert kept == pytest.approx(256 * ARRAYS_PER_LAYER, rel=0.2)
    assert 64 < block < 120
    assert 16 < nested < 72


@pytest.mark.parametrize(
    ("blocks", "length"), [(1, 1), (16, 4), (12, 3), (7, 1), (256, 16), (1000, 25)]
)
def test_segments_divide_the_stack_at_about_its_square_root(blocks, length):
    assert segment_length(blocks) == length


def test_bfloat16_branches_leave_the_stream_in_float32(random_module, normal):
    """Each of 64 branches adds less than half a bfloat16 step: such a stream would stand still."""
    stacks = [
        random_module(Stack.init, TorsoSpec(64, 16, 1, compute_dtype=dtype, branch_scale=1e-3))
        for dtype in ("float32", "bfloat16")
    ]
    x = jnp.abs(normal(5, 4, 16)) + 1.0
    exact, coarse = (stack(x) - x for stack in stacks)
    assert float(jnp.abs(exact).max()) > 0.001
    np.testing.assert_allclose(coarse, exact, rtol=0.1, atol=1e-4)


@pytest.mark.parametrize("unroll", [1, 3])
def test_slicing_the_block_axis_prunes_the_stack(unroll, make_stack, normal):
    stack = make_stack(5, unroll=unroll)
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(stack))
    keep = np.array([0, 2, 4])
    pruned = jax.tree.map(lambda leaf: leaf[keep], stack)
    x = normal(3, 4, WIDTH)
    expected = x
    for index in keep:
        block = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)
        expected = expected + block.branch(expected)[-1]
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
        for activity, activation in zip(statistics.activity, branch, strict=True):
            np.testing.assert_allclose(activity[index], np.abs(activation).mean(axis=0), atol=1e-5)
        x = x + branch[-1]
        np.testing.assert_allclose(statistics.residual[index], x, atol=1e-5)


def test_blocks_are_drawn_from_different_keys():
    kernels = Stack.init(jax.random.key(0), TorsoSpec(6, WIDTH, 2)).blocks.layers
    drawn = np.concatenate([np.asarray(layer.dense.kernel) for layer in kernels])
    assert len(np.unique(drawn[:, 0, 0])) == 6
