"""Lean gradients against autodiff and the loop twin; several encoders against each single one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import Encoder, TorsoSpec, apply_together
from kilolayer.networks.lean import SEGMENT_BLOCKS, segment_length
from kilolayer.networks.stack import Stack
from oracles import apply_in_a_loop

SCALE = 0.3


@pytest.fixture
def make_stack(random_module):
    """`make_stack(lean, blocks, layers, width, dtype, unroll)`: equal parameters for equal
    shapes."""

    def make(lean, blocks, layers=2, width=8, dtype="float32", unroll=1) -> Stack:
        torso = TorsoSpec(blocks * layers, width, layers, "none", unroll, dtype, SCALE, lean=lean)
        return random_module(Stack.init, torso)

    return make


def value_and_gradients(apply, stack, x):
    """The output, and the gradients of a loss of it by every parameter and by `x`."""

    def total(stack, x):
        output = apply(stack, x)
        return jnp.sin(output).sum(), output

    gradient = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    (_, output), gradients = jax.jit(gradient)(stack, x)
    return [output, *jax.tree.leaves(gradients)]


def furthest(found, expected) -> float:
    """The largest difference of any leaf, relative to the leaf's largest number."""
    distances = [
        float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(found, expected, strict=True)
    ]
    return max(distances)


@pytest.mark.parametrize(
    ("blocks", "layers", "width", "batch", "unroll"),
    [
        (1, 4, 8, 5, 1),
        (3, 1, 16, 1, 1),
        (6, 4, 64, 33, 2),
        (2 * SEGMENT_BLOCKS, 2, 8, 7, 1),  # two segments
        (SEGMENT_BLOCKS + 1, 2, 8, 7, 1),  # a prime: segments of one block
    ],
)
def test_lean_gradients_match_autodiff_and_the_loop(
    blocks, layers, width, batch, unroll, make_stack, normal
):
    x = normal(1, batch, width)
    lean, plain = (
        make_stack(option, blocks, layers, width, unroll=unroll) for option in (True, False)
    )
    found = value_and_gradients(Stack.__call__, lean, x)
    for oracle in (Stack.__call__, apply_in_a_loop):
        expected = value_and_gradients(oracle, plain, x)
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in expected)
        assert furthest(found, expected) < 1e-6


def test_lean_bfloat16_gradients_are_as_accurate_as_autodiff(make_stack, normal):
    x = normal(1, 32, 16)
    exact = value_and_gradients(apply_in_a_loop, make_stack(False, 16, 2, 16), x)
    lean, plain = (
        furthest(
            value_and_gradients(Stack.__call__, make_stack(option, 16, 2, 16, "bfloat16"), x), exact
        )
        for option in (True, False)
    )
    assert 1e-4 < plain < 0.1
    assert lean < 1.2 * plain


def test_a_lean_stack_takes_rows_of_any_shape(make_stack, normal):
    lean, plain, x = make_stack(True, 2), make_stack(False, 2), normal(1, 3, 4, 8)
    expected = value_and_gradients(Stack.__call__, plain, x)
    assert furthest(value_and_gradients(Stack.__call__, lean, x), expected) < 1e-6
    one = jax.vmap(lambda row: lean(row))(x)
    np.testing.assert_allclose(one, expected[0], rtol=1e-5, atol=1e-6)


def test_lean_stacks_under_vmap_match_single_stacks(make_stack, normal):
    """As twin critics and several seeds run."""
    x = normal(1, 2, 9, 8)

    def gradients(lean):
        stacks = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), make_stack(lean, 3))
        if lean:
            return value_and_gradients(lambda s, x: jax.vmap(lambda s, x: s(x))(s, x), stacks, x)
        parts = [jax.tree.map(lambda leaf, i=i: leaf[i], stacks) for i in range(2)]
        alone = [
            value_and_gradients(apply_in_a_loop, s, rows) for s, rows in zip(parts, x, strict=True)
        ]
        return [jnp.stack(pair) for pair in zip(*alone, strict=True)]

    assert furthest(gradients(True), gradients(False)) < 1e-6


def test_lean_gradients_use_no_more_matrix_products(make_stack, normal):
    """For parameters and input, for the input only, and for the output."""
    x = normal(1, 16, 8)
    lean, plain = (make_stack(option, 4, layers=3) for option in (True, False))

    def work(stack, argnums):
        gradient = jax.grad(lambda stack, x: jnp.sin(stack(x)).sum(), argnums)
        return arithmetic(gradient, stack, x).flops

    forward = 4 * 3 * 2 * 16 * 8 * 8
    for argnums, passes in (((0, 1), 3), (1, 2)):
        assert work(lean, argnums) == work(plain, argnums) == passes * forward
    assert arithmetic(lambda stack, x: stack(x), lean, x).flops == forward


@pytest.mark.parametrize("changes", [{"architecture": Architecture("none")},
                                     {"rematerialisation": "block"}])  # fmt: skip
def test_only_the_published_block_without_rematerialisation_is_lean(changes):
    with pytest.raises(ValueError, match="lean"):
        Stack.init(jax.random.key(0), TorsoSpec(4, 8, 2, lean=True, **changes))


@pytest.mark.parametrize(("blocks", "length"), [(1, 1), (16, 16), (17, 1), (24, 12), (256, 16)])
def test_segments_divide_the_stack(blocks, length):
    assert segment_length(blocks) == length


@pytest.mark.parametrize("depths", [(4, 4, 4), (4, 2, 4)])
def test_stacked_encoders_match_single_encoders(depths, random_module, normal):
    """Three of equal depth share a scan; of the others two do."""
    sizes = [(5, 3), (2, 4), (7, 6)]
    inputs = [normal(index, 9, size) for index, (size, _) in enumerate(sizes)]

    def make(lean: bool) -> list[Encoder]:
        torsos = [TorsoSpec(depth, 8, 2, branch_scale=SCALE, lean=lean) for depth in depths]
        return [
            random_module(Encoder.init, *size, torso)
            for size, torso in zip(sizes, torsos, strict=True)
        ]

    def alone(encoders, inputs):
        return [encoder(x) for encoder, x in zip(encoders, inputs, strict=True)]

    def gradients(apply, encoders):
        def total(encoders, inputs):
            outputs = apply(encoders, inputs)
            return sum(jnp.sin(y).sum() for y in outputs), outputs

        found = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(encoders, inputs)
        return jax.tree.leaves(found)

    expected = gradients(alone, make(False))
    assert furthest(gradients(apply_together, make(True)), expected) < 2e-6
    assert furthest(gradients(apply_together, make(False)), expected) < 2e-6
    scans = str(jax.make_jaxpr(apply_together)(make(True), inputs)).count("custom_vjp_call[")
    assert scans == len(set(depths))
