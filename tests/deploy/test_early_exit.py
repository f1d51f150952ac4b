"""Early exit: known stopping blocks, and operations counted by hand."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.deploy.smaller.early_exit import EarlyExit, early_exit_operations
from kilolayer.errors import UserError
from kilolayer.networks.actor import Actor
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.encoders import TorsoSpec

BLOCKS, WIDTH, OBSERVATION, GOAL, ACTION = 5, 8, 3, 2, 2
AWAKE = 2  # blocks that do something


@pytest.fixture
def actor() -> Actor:
    """Its blocks after the second add nothing: their norms' scale and offset are 0."""
    torso = TorsoSpec(4 * BLOCKS, WIDTH)
    actor = jax.jit(lambda key: Actor.init(key, OBSERVATION, GOAL, ACTION, torso))(
        jax.random.key(1)
    )
    awake = jnp.arange(BLOCKS)[:, None] < AWAKE
    layers = tuple(
        dataclasses.replace(layer, scale=layer.scale * awake, offset=layer.offset * awake)
        for layer in actor.encoder.stack.blocks.layers
    )
    return eqx.tree_at(lambda actor: actor.encoder.stack.blocks.layers, actor, layers)


@pytest.fixture
def inputs(normal):
    return normal(0, 6, OBSERVATION), normal(1, 6, GOAL)


@pytest.mark.parametrize(("patience", "blocks"), [(1, 3), (2, 4), (3, 5)])
def test_early_exit_stops_when_the_action_settles(patience, blocks, actor, inputs):
    found = EarlyExit(tolerance=1e-4, patience=patience).run(actor, *inputs)
    assert found.blocks.tolist() == [blocks] * 6
    np.testing.assert_allclose(found.action, jnp.tanh(actor(*inputs)[0]), atol=1e-6)


def test_zero_tolerance_equals_the_full_policy(actor, inputs):
    found = EarlyExit(tolerance=0.0).run(actor, *inputs)
    assert found.blocks.tolist() == [BLOCKS] * 6
    np.testing.assert_allclose(found.action, jnp.tanh(actor(*inputs)[0]), atol=1e-6)


def test_batch_rows_exit_as_single_rows_do(actor, inputs):
    exiting = EarlyExit(tolerance=0.1)
    together = exiting.run(actor, *inputs)
    assert len(set(together.blocks.tolist())) > 1
    run = jax.jit(exiting.run)
    for row in range(6):
        alone = run(actor, *(each[row : row + 1] for each in inputs))
        assert alone.blocks[0] == together.blocks[row]
        np.testing.assert_allclose(alone.action[0], together.action[row], atol=1e-6)


def test_operations_count_the_matrix_products(actor, inputs):
    embedding, block = 2 * (OBSERVATION + GOAL) * WIDTH, 4 * 2 * WIDTH**2
    output = 2 * WIDTH * 2 * ACTION
    row = [each[:1] for each in inputs]
    assert embedding + BLOCKS * block + output == arithmetic(actor, *row).flops
    used = np.array([1, 3])
    alone, batched = early_exit_operations(actor, used)
    assert alone == embedding + 2 * block + 3 * output
    assert batched == embedding + 3 * block + 4 * output
    assert early_exit_operations(actor, np.array([0])) == (embedding + output,) * 2


def test_random_actions_are_refused(actor, inputs):
    with pytest.raises(UserError, match="deterministic"):
        EarlyExit().act(actor, *inputs, jax.random.key(0), False)


@pytest.mark.parametrize("wrong", [{"tolerance": -1.0}, {"tolerance": np.nan}, {"patience": 0}])
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} = "):
        EarlyExit(**wrong)
