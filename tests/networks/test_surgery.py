"""Blocks taken out and reordered: what the network then computes, and its optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.networks.surgery import select_blocks

WIDTH = 8


@pytest.fixture
def actor(random_module) -> Actor:
    torso = TorsoSpec(depth=8, width=WIDTH, layers_per_block=2, branch_scale=0.5)
    return random_module(Actor.init, 3, 2, 2, torso)


def test_selecting_all_blocks_is_the_identity(actor, assert_trees_equal):
    assert_trees_equal(select_blocks(actor, range(4)), actor)


@pytest.mark.parametrize("keep", [[1], [3, 0, 2], [2, 2]])
def test_selected_blocks_are_applied_in_order(actor, keep, normal):
    stack, x = actor.encoder.stack, normal(0, 5, WIDTH)
    expected = x
    for index in keep:
        block = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)
        expected = expected + 0.5 * block.branch(expected)[-1]
    np.testing.assert_allclose(select_blocks(stack, keep)(x), expected, rtol=1e-5, atol=1e-6)


def test_block_selection_can_be_traced(actor, normal):
    stack, x = actor.encoder.stack, normal(0, 5, WIDTH)
    traced = jax.jit(lambda keep: select_blocks(stack, keep)(x))(jnp.array([0, 3]))
    np.testing.assert_allclose(traced, select_blocks(stack, [0, 3])(x), rtol=1e-6)


def test_optimiser_moments_are_selected_with_their_parameters(actor, assert_trees_equal):
    optimiser = network_optimiser(1e-3)
    _, state = optimiser.update(actor, optimiser.init(actor), actor)
    cut, adam = select_blocks(actor, [2, 1]), select_blocks(state, [2, 1])[0]
    assert adam.count == 1
    # After one step the first moment is a tenth of the gradient.
    assert_trees_equal(adam.mu, jax.tree.map(lambda leaf: leaf * (1 - 0.9), cut))


@pytest.mark.parametrize("keep", [[], [4], [-1]])
def test_missing_blocks_cannot_be_selected(actor, keep):
    with pytest.raises(ValueError, match="keep"):
        select_blocks(actor, keep)
