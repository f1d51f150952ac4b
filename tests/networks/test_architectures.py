"""Every architecture against one written in numpy, layer after layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.networks.block import Architecture, NormedLayer, normalise, rms_norm
from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.networks.stack import Stack

WIDTH, BLOCKS, SCALE = 8, 3, 0.4


def unit_rms(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def norm_of(kind, x, layer):
    if kind == "none":
        return x
    if kind == "rms":
        return unit_rms(x) * layer["scale"]
    if kind == "hyperspherical":
        return unit_rms(x * layer["scale"])
    centred = x - x.mean(-1, keepdims=True)
    return unit_rms(centred) * layer["scale"] + layer["offset"]


def activated(kind, x):
    if kind == "relu":
        return np.where(x > 0, x, 0)
    if kind == "swish":
        return x / (1 + np.exp(-x))
    # GELU by its usual tanh (arXiv 1606.08415, section 2).
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def arrays(layer, block=...):
    dense = layer.dense if isinstance(layer, NormedLayer) else layer
    named = {"kernel": dense.kernel, "bias": dense.bias}
    if isinstance(layer, NormedLayer):
        named |= {"scale": layer.scale, "offset": layer.offset}
    return {n: np.asarray(leaf, np.float64)[block] for n, leaf in named.items() if leaf is not None}


def affine(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def in_numpy(encoder, x, how: Architecture):
    """The stream after every block, and the output."""
    pre, x = how.norm_position == "pre", np.asarray(x, np.float64)
    inputs = arrays(encoder.inputs)
    x = affine(inputs, x)
    if not pre:
        x = norm_of(how.norm, x, inputs)
        if how.norm != "hyperspherical":
            x = activated(how.activation, x)
    streams = []
    for block in range(BLOCKS):
        y, layers = x, encoder.stack.blocks.layers
        for index, layer in enumerate(arrays(layer, block) for layer in layers):
            if pre and index == 0:
                y = norm_of(how.norm, y, layer)
            y = affine(layer, y)
            if not pre:
                y = norm_of(how.norm, y, layer)
            if how.branch_activation or index < len(layers) - 1:
                y = activated(how.activation, y)
        if how.residual == "add":
            y = x + SCALE * y
        elif how.residual == "interpolate":
            share = SCALE * np.asarray(encoder.stack.blocks.interpolation[block], np.float64)
            y = (1 - share) * x + share * y
        x = unit_rms(y) if how.norm == "hyperspherical" else y
        streams.append(x)
    outputs = arrays(encoder.outputs)
    return streams, affine(outputs, norm_of(how.norm, x, outputs) if pre else x)


ARCHITECTURES = {
    "default": Architecture(),
    "rms": Architecture(norm="rms", activation="gelu"),
    "plain": Architecture("none", "none", activation="relu"),
    "unnormed residual": Architecture(norm="none", branch_activation=False),
    "pre-norm": Architecture("add", "layer", "pre", "relu", False, 3),
    "pre-norm rms": Architecture("none", "rms", "pre"),
    "hyperspherical": Architecture("interpolate", "hyperspherical", "post", "relu", False, 2),
    "hyperspherical, added": Architecture("add", "hyperspherical"),
    "interpolated": Architecture("interpolate", "layer", "post", "gelu"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_encoder_matches_the_numpy_encoder(name, random_module, normal):
    how = ARCHITECTURES[name]
    torso = TorsoSpec(2 * BLOCKS, WIDTH, 2, branch_scale=SCALE, architecture=how)
    encoder = random_module(Encoder.init, 3, 5, torso)
    x = normal(1, 6, 3)
    streams, expected = in_numpy(encoder, x, how)
    output, statistics = jax.jit(lambda e, x: (e(x), e.statistics(x)))(encoder, x)
    np.testing.assert_allclose(output, expected, atol=2e-5)
    np.testing.assert_allclose(statistics.residual, streams, atol=2e-5)
    widths = [layer.shape for layer in statistics.activity]
    assert widths == [(BLOCKS, how.expansion * WIDTH), (BLOCKS, WIDTH)]


def test_numpy_encoders_of_architectures_differ(random_module, normal):
    """So that the comparison above can fail: equal weights, different answers."""
    everything = Architecture("interpolate", "layer", "post", "relu", False)
    torso = TorsoSpec(2 * BLOCKS, WIDTH, 2, branch_scale=SCALE, architecture=everything)
    encoder, x = random_module(Encoder.init, 3, 5, torso), normal(1, 6, 3)
    changes = [
        {}, {"residual": "add"}, {"residual": "none"}, {"norm": "rms"}, {"norm": "none"},
        {"norm": "hyperspherical"}, {"activation": "swish"}, {"activation": "gelu"},
        {"branch_activation": True},
    ]  # fmt: skip
    found = [in_numpy(encoder, x, dataclasses.replace(everything, **c))[1] for c in changes]
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("way", ["block", "nested"])
def test_rematerialisation_keeps_all_gradients(way, random_module, normal):
    how = ARCHITECTURES["hyperspherical"]
    x = normal(1, 6, WIDTH)

    def gradient(way):
        torso = TorsoSpec(8, WIDTH, 2, way, branch_scale=SCALE, architecture=how)
        stack = random_module(Stack.init, torso)
        return jax.jit(jax.grad(lambda s: jnp.square(s(x) - 1).sum()))(stack)

    for ours, kept in zip(*(jax.tree.leaves(gradient(w)) for w in (way, "none")), strict=True):
        assert float(jnp.abs(kept).max()) > 0
        np.testing.assert_allclose(ours, kept, atol=1e-5)


def test_norms_match_hand_computation():
    """Root mean squares of (3, 4, 0, 0) are 5/2 and, scaled to (6, 4, 0, 0), sqrt(13)."""
    x, scale = jnp.array([[3.0, 4.0, 0.0, 0.0]]), jnp.array([2.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(rms_norm(x), [[1.2, 1.6, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(normalise("rms", x, scale, None), [[2.4, 1.6, 0, 0]], rtol=1e-6)
    on_sphere = normalise("hyperspherical", x, scale, None)
    np.testing.assert_allclose(on_sphere, np.array([[6, 4, 0, 0]]) / np.sqrt(13), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(on_sphere), 2.0, rtol=1e-6)  # sqrt of the width
    assert normalise("none", x, None, None) is x


def test_norms_of_bfloat16_are_computed_in_float32():
    x = jnp.array([[1000.0, 1004.0]], jnp.bfloat16)
    for norm in ("rms", "hyperspherical"):
        normed = normalise(norm, x, jnp.ones(2), None)
        assert normed.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(normed, np.float32), [[1, 1]], atol=0.01)


def test_kernel_initialisation_matches_the_activation():
    """Filled to 1/sqrt(fan_in) before a norm and where nothing is activated, to sqrt(6/fan_in)
    before an activation without a norm, with columns of norm 1 on the sphere."""
    key, fan_in = jax.random.key(0), 64

    def largest(**how) -> float:
        return float(jnp.abs(NormedLayer.init(key, fan_in, 400, **how).dense.kernel).max())

    assert largest() == pytest.approx(1 / 8, rel=0.01)
    assert largest(norm="none", activation="linear") == pytest.approx(1 / 8, rel=0.01)
    assert largest(norm="none", activation="relu") == pytest.approx(np.sqrt(6) / 8, rel=0.01)
    assert largest(norm_first=True, activation="relu") == pytest.approx(np.sqrt(6) / 8, rel=0.01)
    kernel = NormedLayer.init(key, fan_in, 400, norm="hyperspherical").dense.kernel
    np.testing.assert_allclose(jnp.linalg.norm(kernel, axis=0), np.ones(400), rtol=1e-6)


def test_plain_network_preserves_signal_over_64_layers(normal):
    """Without the wider kernels 64 rectifiers would leave 0.41**64 = 1e-25 of it."""
    how = Architecture("none", "none", "post", "relu")
    stack = Stack.init(jax.random.key(0), TorsoSpec(64, 128, 1, architecture=how))
    size = float(jnp.sqrt(jnp.square(stack(normal(0, 32, 128))).mean()))
    assert 0.1 < size < 10


def test_unused_parameters_do_not_exist():
    def count(how: Architecture) -> int:
        torso = TorsoSpec(4, WIDTH, 2, architecture=how)
        shapes = jax.eval_shape(lambda key: Encoder.init(key, 3, 5, torso), jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    bare = 3 * 8 + 8 + 4 * (8 * 8 + 8) + 8 * 5 + 5
    assert count(ARCHITECTURES["plain"]) == bare
    assert count(ARCHITECTURES["default"]) == bare + 5 * (8 + 8)  # scale and offset
    assert count(ARCHITECTURES["rms"]) == bare + 5 * 8
    assert count(Architecture("interpolate", "rms")) == bare + 5 * 8 + 2 * 8
    # One norm in each of two blocks and one before the output.
    assert count(Architecture(norm_position="pre")) == bare + 3 * (8 + 8)
    wider = count(Architecture("none", "none", expansion=3))
    assert wider == 3 * 8 + 8 + 2 * (8 * 24 + 24 + 24 * 8 + 8) + 8 * 5 + 5
