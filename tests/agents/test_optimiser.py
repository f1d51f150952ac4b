"""Adam and AdamW by hand, and the columns that stay on their sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import Encoder, TorsoSpec

RATE = 1e-2
SPHERE = Architecture("interpolate", "hyperspherical", "post", "relu", False, 2)


def network(architecture: Architecture) -> Encoder:
    torso = TorsoSpec(4, 8, 2, architecture=architecture)
    return jax.jit(lambda key: Encoder.init(key, 3, 5, torso))(jax.random.key(0))


def steps(optimiser, parameters, count: int):
    """Parameters after so many steps along random gradients, and the state of the optimiser."""

    def step(carry, key):
        parameters, state = carry
        gradient = jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), parameters)
        change, state = optimiser.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, change), state), None

    keys = jax.random.split(jax.random.key(1), count)
    carry = (parameters, optimiser.init(parameters))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])(carry)


def test_unconstrained_optimiser_is_bit_identical_to_adam(assert_trees_equal):
    parameters = network(Architecture())
    ours, state = steps(network_optimiser(RATE), parameters, 5)
    theirs, moments = steps(optax.adam(RATE), parameters, 5)
    assert_trees_equal(ours, theirs)
    names = [
        [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        for tree in (state, moments)
    ]
    assert names[0] == names[1]  # so that checkpoints of either can be read


def test_weight_decay_is_decoupled_from_the_step():
    """Adam's first step is the rate, towards which the decay adds its share of the parameter."""
    optimiser = network_optimiser(RATE, weight_decay=0.5)
    parameter, gradient = jnp.array([2.0, -3.0]), jnp.array([7.0, 0.1])
    change, _ = optimiser.update(gradient, optimiser.init(parameter), parameter)
    expected = -RATE * (np.array([1.0, 1.0]) + 0.5 * np.array([2.0, -3.0]))
    np.testing.assert_allclose(change, expected, rtol=1e-4)


def test_hyperspherical_kernels_keep_unit_columns():
    before = network(SPHERE)
    after, _ = steps(network_optimiser(RATE), before, 50)
    free, _ = steps(optax.adam(RATE), before, 50)

    def norms(encoder):
        layers = (encoder.inputs, *encoder.stack.blocks.layers)
        kernels = [layer.dense.kernel for layer in layers]
        return np.concatenate([np.linalg.norm(kernel, axis=-2).ravel() for kernel in kernels])

    assert norms(before).size == 8 + 2 * (16 + 8)
    for encoder in (before, after):
        np.testing.assert_allclose(norms(encoder), 1.0, atol=1e-6)
    assert np.abs(norms(free) - 1).max() > 0.05
    # The constraint is the kernels' alone: everything moves, and the rest moves freely.
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(old, new)
    np.testing.assert_array_equal(after.outputs.kernel, free.outputs.kernel)
    np.testing.assert_array_equal(after.inputs.scale, free.inputs.scale)


def test_projection_preserves_the_step_direction():
    """(1, 0) moved by (0, 3/4) is (1, 3/4), of norm 5/4: projected (4/5, 3/5)."""
    from kilolayer.agents.optimiser import _keep_unit_columns
    from kilolayer.networks.block import Dense, NormedLayer

    def layer(column: list[float]) -> NormedLayer:
        dense = Dense(jnp.array(column)[:, None], jnp.zeros(1))
        return NormedLayer(dense, jnp.ones(1), None, "hyperspherical", False, "relu")

    change = _keep_unit_columns(layer([0.0, 0.75]), layer([1.0, 0.0]))
    assert change.dense.kernel[:, 0] == pytest.approx([-0.2, 0.6])
    assert change.dense.bias == 0.0
    assert change.scale == 1.0  # handed through, whatever it is
