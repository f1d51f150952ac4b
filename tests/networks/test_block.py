"""Dense layers, layer normalisation and the residual block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.block import Dense, NormedLayer, ResidualBlock, layer_norm


@pytest.mark.parametrize(("fan_in", "fan_out"), [(16, 400), (400, 16)])
def test_kernel_range_depends_only_on_fan_in(fan_in, fan_out):
    kernel = np.asarray(Dense.init(jax.random.key(0), fan_in, fan_out).kernel)
    bound = 1 / np.sqrt(fan_in)
    assert kernel.shape == (fan_in, fan_out)
    assert np.abs(kernel).max() <= bound
    assert kernel.max() > 0.99 * bound
    assert kernel.min() < -0.99 * bound
    # Uniform: the variance of U(-b, b) is b^2 / 3.
    assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.05)


def test_a_fresh_layer_has_zero_bias_unit_scale_and_zero_offset():
    layer = NormedLayer.init(jax.random.key(0), 3, 5)
    assert np.array_equal(layer.dense.bias, np.zeros(5))
    assert np.array_equal(layer.scale, np.ones(5))
    assert np.array_equal(layer.offset, np.zeros(5))


def test_dense_is_an_affine_map(normal):
    dense = Dense(normal(0, 3, 2), normal(1, 2))
    x = normal(2, 4, 3)
    expected = np.asarray(x) @ np.asarray(dense.kernel) + np.asarray(dense.bias)
    np.testing.assert_allclose(dense(x), expected, rtol=1e-5)


def test_layer_norm_matches_numpy(normal):
    x, scale, offset = 3 * normal(0, 4, 7) + 2, normal(1, 7), normal(2, 7)
    y = np.asarray(x, np.float64)
    normed = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    expected = normed * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(layer_norm(x, scale, offset), expected, atol=1e-5)


def test_layer_norm_epsilon_dominates_tiny_rows():
    # Variance 1e-6, equal to epsilon: the deviations are divided by sqrt(2e-6).
    x = jnp.array([[1e-3, -1e-3]])
    expected = [[1 / np.sqrt(2), -1 / np.sqrt(2)]]
    np.testing.assert_allclose(layer_norm(x, jnp.ones(2), jnp.zeros(2)), expected, rtol=1e-4)


def test_layer_norm_of_bfloat16_is_computed_in_float32():
    # 1000 and 1004 differ by one bfloat16 step, so their mean does not exist in that format.
    x = jnp.array([[1000.0, 1004.0]], jnp.bfloat16)
    normed = layer_norm(x, jnp.ones(2), jnp.zeros(2))
    assert normed.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(normed, np.float32), [[-1, 1]], atol=0.01)


def test_a_layer_is_dense_then_norm_then_swish(normal):
    layer = NormedLayer(Dense(normal(0, 3, 4), normal(1, 4)), normal(2, 4), normal(3, 4))
    x = normal(4, 2, 3)
    before = layer_norm(layer.dense(x), layer.scale, layer.offset)
    expected = np.asarray(before) / (1 + np.exp(-np.asarray(before)))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_branch_applies_its_layers_in_order(normal):
    block = ResidualBlock.init(jax.random.key(0), 3, 8)
    x = normal(1, 5, 8)
    assert len(block.layers) == 3
    activations = block.branch(x)
    for layer, activation in zip(block.layers, activations, strict=True):
        x = layer(x)
        np.testing.assert_allclose(activation, x, atol=1e-6)
