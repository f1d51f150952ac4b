"""Encoders: shapes, depth, number formats."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.encoders import Encoder, TorsoSpec
from oracles import apply_in_a_loop


@pytest.mark.parametrize(
    ("depth", "layers_per_block", "blocks"), [(4, 4, 1), (12, 4, 3), (6, 2, 3)]
)
def test_depth_counts_the_layers_inside_blocks(depth, layers_per_block, blocks, random_module):
    torso = TorsoSpec(depth=depth, width=8, layers_per_block=layers_per_block)
    encoder = random_module(Encoder.init, 3, 2, torso)
    assert encoder.stack.num_blocks == blocks
    kernels = [layer.dense.kernel for layer in encoder.stack.blocks.layers]
    assert sum(kernel.shape[0] for kernel in kernels) == depth


def test_an_encoder_is_input_layer_stack_and_affine_output(random_module, normal):
    encoder = random_module(Encoder.init, 3, 2, TorsoSpec(depth=8, width=8))
    x = normal(1, 5, 3)
    expected = encoder.outputs(apply_in_a_loop(encoder.stack, encoder.inputs(x)))
    assert expected.shape == (5, 2)
    np.testing.assert_allclose(encoder(x), expected, atol=1e-5)


def test_rows_of_a_batch_are_independent(random_module, normal):
    encoder = random_module(Encoder.init, 3, 2, TorsoSpec(depth=4, width=8))
    x = normal(1, 5, 3)
    changed = encoder(x.at[0].set(9.0))
    np.testing.assert_allclose(changed[1:], encoder(x)[1:], atol=1e-6)
    assert not np.allclose(changed[0], encoder(x)[0], atol=1e-3)


def test_bfloat16_encoder_keeps_float32_parameters(random_module, normal):
    encoders = [
        random_module(Encoder.init, 3, 2, TorsoSpec(8, 32, compute_dtype=dtype))
        for dtype in ("float32", "bfloat16")
    ]
    x = normal(1, 16, 3)
    exact, coarse = (encoder(x) for encoder in encoders)
    assert {leaf.dtype for leaf in jax.tree.leaves(encoders[1])} == {jnp.dtype("float32")}
    assert coarse.dtype == jnp.float32
    difference = float(jnp.abs(exact - coarse).max())
    assert 1e-5 < difference < 0.1


def test_depth_1024_runs_and_its_last_block_has_an_effect(random_module, normal):
    encoder = random_module(Encoder.init, 3, 4, TorsoSpec(depth=1024, width=8))
    x = normal(1, 2, 3)
    output = jax.jit(Encoder.__call__)(encoder, x)
    assert encoder.stack.num_blocks == 256
    assert np.isfinite(output).all()
    # A block whose last layer normalises to zero adds swish(0) = 0: it is as if it were not there.
    last = encoder.stack.blocks.layers[-1]
    silent = eqx.tree_at(
        lambda e: (e.stack.blocks.layers[-1].scale, e.stack.blocks.layers[-1].offset),
        encoder,
        (last.scale.at[-1].set(0.0), last.offset.at[-1].set(0.0)),
    )
    assert not np.allclose(jax.jit(Encoder.__call__)(silent, x), output, rtol=1e-4)


def test_statistics_have_one_row_per_block(random_module, normal):
    encoder = random_module(Encoder.init, 3, 2, TorsoSpec(depth=12, width=8))
    x = normal(1, 5, 3)
    statistics = encoder.statistics(x)
    assert statistics.residual.shape == (3, 5, 8)
    assert [layer.shape for layer in statistics.activity] == [(3, 8)] * 4
    np.testing.assert_allclose(encoder.outputs(statistics.residual[-1]), encoder(x), atol=1e-5)
