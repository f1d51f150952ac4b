"""The action module: chunks and their execution, trunks, and invalid specs."""

import dataclasses
import json
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.errors import UserError
from kilolayer.language.module import ActionModule, ModuleSpec, Trunk
from kilolayer.language.train_module import model_cost
from kilolayer.networks.mixture import MixtureSpec

TASK = TaskSpec(observation_dim=3, action_dim=2, goal_dim=2)
MIXTURE = MixtureSpec(width=8, depth=2, layers=1, experts=4, layers_per_block=2)
SPEC = ModuleSpec(TASK, 8, mixture=MIXTURE, chunk=3, execute=2)


@pytest.fixture(scope="module")
def module() -> ActionModule:
    return jax.jit(SPEC.init)(jax.random.key(0))


def test_actions_of_a_chunk_lie_within_their_limits(module, normal):
    observation, embedding = 1e3 * normal(2, 4, 3), normal(0, 4, 8)
    chunk, routed = jax.jit(ActionModule.__call__)(module, observation, embedding)
    assert chunk.shape == (4, 3, 2)
    assert (jnp.abs(chunk) <= 1).all()
    assert routed.use.shape == (1, 4, 4)


def test_observations_are_standardised(module, normal):
    """In other units, with the scale of these units, they give the same chunk."""
    observation, embedding = normal(5, 2, 3), normal(6, 2, 8)
    centre, spread = jnp.array([100.0, 0.0, -3.0]), jnp.array([1e-2, 10.0, 1.0])
    scaled = dataclasses.replace(module, centre=centre, spread=spread)
    call = jax.jit(lambda module, rows: module(rows, embedding)[0])
    expected = call(module, observation)
    found = call(scaled, centre + spread * observation)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(call(scaled, observation) - expected).max() > 0.01


def test_a_chunk_is_executed_before_the_next_is_computed(module, normal):
    """Rows that need a chunk at different times each get a new one at their time."""
    observation, embedding = normal(3, 6, 2, 3), normal(4, 2, 8)
    act, chunk = jax.jit(ActionModule.act), jax.jit(lambda o: module(o, embedding)[0])
    carry = module.initial_carry(2)
    carry = dataclasses.replace(carry, executed=jnp.array([2, 1]))
    found = []
    for row in observation:
        action, carry = act(module, carry, row, embedding)
        found.append(action)
    found = np.array(found)
    for env, chunk_times in ((0, (0, 2, 4)), (1, (1, 3))):
        for time in chunk_times:
            expected = chunk(observation[time])[env, :2]
            np.testing.assert_allclose(found[time : time + 2, env], expected, atol=1e-5)
    # The initial chunk has zeros.
    np.testing.assert_array_equal(found[0, 1], [0, 0])


def test_an_action_does_not_depend_on_the_other_rows(module, normal):
    row = normal(7, 1, 11)
    batch = jnp.concatenate([row + 0.01 * normal(8, 31, 11), row])
    call = jax.jit(lambda rows: module(rows[:, :3], rows[:, 3:])[0])
    np.testing.assert_allclose(call(batch)[-1], call(row)[0], atol=1e-6)


def test_dense_trunks_match_the_parameters_or_the_operations_of_the_mixture():
    spec = ModuleSpec(TASK, 8)
    trunks = get_args(Trunk)
    cost = {trunk: model_cost(dataclasses.replace(spec, trunk=trunk)) for trunk in trunks}
    mixture = cost["mixture"]
    for trunk, what in (("dense-parameters", "parameters"), ("dense-operations", "operations")):
        assert cost[trunk][f"trunk_{what}"] == pytest.approx(mixture[f"trunk_{what}"], rel=0.03)
        assert cost[trunk][what] == pytest.approx(mixture[what], rel=0.03)
    assert cost["dense-parameters"]["trunk_operations"] > 3 * mixture["trunk_operations"]
    assert cost["dense-operations"]["trunk_parameters"] < mixture["trunk_parameters"] / 3


def test_spec_survives_json_with_the_names_of_the_format():
    values = SPEC.to_json()
    assert list(values) == ["task", "reading", "trunk", "mixture", "chunk", "execute"]
    assert ModuleSpec.from_json(json.loads(json.dumps(values))) == SPEC


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"trunk": "dense"},
            "trunk = 'dense' is not allowed: one of mixture, dense-parameters, dense-operations; "
            "the nearest valid choice is dense-",
        ),
        ({"chunk": 0}, "chunk = 0 is not allowed: it must be at least 1; .* is 1"),
        ({"chunk": 2.5}, "chunk = 2.5 is not allowed: it must be a whole number"),
        ({"execute": 4}, "execute = 4 is not allowed: it must lie in 1 to chunk = 3.*is 3"),
    ],
)
def test_invalid_specs_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(SPEC, **changes)
