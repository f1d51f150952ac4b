"""Blocks taken out, reordered and added: what the network then computes, and its optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.networks.actor import Actor
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.networks.stack import Stack
from kilolayer.networks.surgery import grow_blocks, grow_moments, select_blocks
from kilolayer.types import UserError

WIDTH = 8
ADDED = [
    Architecture(),
    Architecture(norm="rms", norm_position="pre", expansion=2),
    Architecture(norm="none", activation="relu"),
    Architecture(residual="interpolate", norm="hyperspherical", branch_activation=False),
]


@pytest.fixture
def actor(random_module) -> Actor:
    torso = TorsoSpec(depth=8, width=WIDTH, layers_per_block=2, branch_scale=0.5)
    return random_module(Actor.init, 3, 2, 2, torso)


def test_keeping_all_changes_nothing(actor, assert_trees_equal):
    assert_trees_equal(select_blocks(actor, range(4)), actor)


@pytest.mark.parametrize("keep", [[1], [3, 0, 2], [2, 2]])
def test_kept_blocks_are_applied_one_after_the_other(actor, keep, normal):
    stack, x = actor.encoder.stack, normal(0, 5, WIDTH)
    expected = x
    for index in keep:
        block = jax.tree.map(lambda leaf, index=index: leaf[index], stack.blocks)
        expected = expected + 0.5 * block.branch(expected)[-1]
    np.testing.assert_allclose(select_blocks(stack, keep)(x), expected, rtol=1e-5, atol=1e-6)


def test_which_blocks_are_kept_may_be_traced(actor, normal):
    stack, x = actor.encoder.stack, normal(0, 5, WIDTH)
    traced = jax.jit(lambda keep: select_blocks(stack, keep)(x))(jnp.array([0, 3]))
    np.testing.assert_allclose(traced, select_blocks(stack, [0, 3])(x), rtol=1e-6)


def test_moments_are_cut_with_their_parameters(actor, assert_trees_equal):
    optimiser = network_optimiser(1e-3)
    _, state = optimiser.update(actor, optimiser.init(actor), actor)
    cut, adam = select_blocks(actor, [2, 1]), select_blocks(state, [2, 1])[0]
    assert adam.count == 1
    # After one step the first moment is a tenth of the gradient.
    assert_trees_equal(adam.mu, jax.tree.map(lambda leaf: leaf * (1 - 0.9), cut))


@pytest.mark.parametrize("keep", [[], [4], [-1]])
def test_blocks_that_are_not_there_cannot_be_kept(actor, keep):
    with pytest.raises(ValueError, match="keep"):
        select_blocks(actor, keep)


@pytest.mark.parametrize("architecture", ADDED, ids=lambda each: f"{each.residual}-{each.norm}")
def test_a_network_grows_without_a_change_and_then_learns(architecture, normal, assert_trees_equal):
    key, x = jax.random.key(0), normal(0, 5, WIDTH)
    stack = Stack.init(key, 3, 2, WIDTH, branch_scale=0.5, architecture=architecture)
    grown = grow_blocks(key, stack, at=1, count=2)
    assert grown.num_blocks == 5
    # A sphere's stream is put back on it once more, which rounds.
    np.testing.assert_allclose(grown(x), stack(x), rtol=1e-4, atol=1e-5)
    assert_trees_equal(select_blocks(grown, [0, 3, 4]), stack)
    gradient = jax.grad(lambda stack: jnp.square(stack(x) - 1).sum())(grown)
    new = select_blocks(gradient, [1, 2])
    changes = jax.tree.map(lambda leaf: jnp.abs(leaf).reshape(2, -1).max(-1), new)
    assert (
        jnp.stack(jax.tree.leaves(changes)).max(0) > 0
    ).all() or architecture.activation == "relu"


def test_moments_of_new_blocks_are_zero(actor, assert_trees_equal):
    grown = grow_moments(actor, at=4, count=1)
    assert_trees_equal(select_blocks(grown, range(4)), actor)
    new = select_blocks(grown, [4]).encoder.stack
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(new))


def test_blocks_in_place_of_the_stream_cannot_be_silent():
    key = jax.random.key(0)
    stack = Stack.init(key, 2, 2, WIDTH, architecture=Architecture(residual="none"))
    with pytest.raises(UserError, match="cannot grow"):
        grow_blocks(key, stack, at=0, count=1)
