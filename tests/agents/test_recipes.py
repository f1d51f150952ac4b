"""Every recipe trains: finite updates that teach the critic, on hindsight batches of the chain."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.config import RunConfig, run_config
from kilolayer.networks.arithmetic import arithmetic, parameter_counts
from kilolayer.recipes import RECIPES, with_recipe
from kilolayer.recommendations import recommended
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import make_task
from probes import Chain, exhaustive

CHAIN, ENVS, UPDATES, BATCH = Chain(), 64, 120, 64
BASE = run_config(depth=4, width=16, representation_dim=8, batch_size=BATCH, seed=0)


def agent_of(name: str):
    """The agent of a recipe for the chain, whose sizes no named task has."""
    rates = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3}
    config = with_recipe(BASE, name).having(**rates)
    task = make_task("point_u_maze")
    agent = build_agent(config, TrainSchedule.derive(config, task.episode_length), task)
    chain = TaskSpec(CHAIN.states, 2, CHAIN.states)
    return agent.on(dataclasses.replace(agent.bound, task=chain))


@pytest.fixture(scope="module")
def trained():
    """`trained(name)`: the states before and after some updates, and the metrics of each."""
    play = CHAIN.play(ENVS, 2, seed=0)
    empty = ring.init(2 * CHAIN.episode_length, ENVS, CHAIN.states, 2, CHAIN.states)
    buffer = jax.jit(ring.insert)(empty, play)

    @functools.cache
    def train(name: str):
        agent = agent_of(name)

        def update(state, key):
            batch = hindsight.sample(buffer, key, BATCH, 0.9, CHAIN.episode_length)
            return agent.update(state, batch, key)

        @jax.jit
        def run(key):
            start = agent.init(key)
            return start, *jax.lax.scan(update, start, jax.random.split(key, UPDATES))

        return run(jax.random.key(0))

    return train


# One of each kind: with norms and projections, and with neither.
ALWAYS = ("simba-v2", "plain-mlp")


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=exhaustive) for name in RECIPES]
)
def test_a_recipe_takes_finite_updates_and_lowers_the_contrastive_loss(name, trained):
    before, after, metrics = trained(name)
    for leaf in jax.tree.leaves((after, metrics)):
        assert np.isfinite(leaf).all()
    pairs = zip(jax.tree.leaves(before.parameters), jax.tree.leaves(after.parameters), strict=True)
    assert not any(np.array_equal(old, new) for old, new in pairs)
    losses = metrics["critic/contrastive_loss"]
    # Blind guessing costs log(BATCH); the best critic 0.30 less, the chain's mutual information.
    assert losses[:5].mean() > np.log(BATCH) - 0.1
    assert losses[-20:].mean() < np.log(BATCH) - 0.15


@pytest.mark.parametrize(("name", "on_sphere"), [("simba-v2", True), ("plain-mlp", False)])
def test_only_simba_v2_kernels_stay_normalised(name, on_sphere, trained):
    parameters = trained(name)[1].parameters
    networks = (parameters.actor.encoder, parameters.critic.state_action, parameters.critic.goal)
    layers = [layer for each in networks for layer in (each.inputs, *each.stack.blocks.layers)]
    norms = [np.linalg.norm(layer.dense.kernel, axis=-2).ravel() for layer in layers]
    assert (np.abs(np.concatenate(norms) - 1).max() < 1e-5) == on_sphere


def test_weight_decay_applies_to_networks_but_not_temperature():
    """Adam's first step along a gradient of 1 is the rate; the decay of a parameter of 1 adds to it
    its share of the rate."""
    agent = dataclasses.replace(agent_of("simba"), weight_decay=0.5)
    one, found = jnp.ones(()), {}
    for part, optimiser in agent.optimisers.items():
        change, _ = optimiser.update(one, optimiser.init(one), one)
        found[part] = float(change)
    networks = -3e-3 * 1.5
    expected = {"actor": networks, "critic": networks, "log_temperature": -3e-4}
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_every_task_and_round_trips(name):
    for task in ("point_u_maze", "ant", "arm_push_easy", "humanoid"):
        config = with_recipe(recommended(task), name)
        assert RunConfig.from_json(config.to_json(), name) == config
        schedule = TrainSchedule.derive(config, make_task(config.task.task).episode_length)
        assert schedule.actor_torso.depth == config.network.depth
        untouched = ("task", "depth", "width", "total_steps", "seed")
        sizes = () if name == "wang2025" else ("batch_size", "num_envs", "episode_length")
        for field in untouched + sizes:
            assert config.flat()[field] == recommended(task).flat()[field]


def test_every_recipe_sets_all_architecture_fields():
    """None keeps part of another: a recipe over a recipe is the last one."""
    architecture = set.intersection(*(set(fields) for fields in RECIPES.values()))
    assert architecture == {
        "residual", "norm", "norm_position", "activation", "branch_activation", "expansion",
        "layers_per_block", "branch_scale", "weight_decay",
    }  # fmt: skip
    assert len({tuple(map(str, fields.values())) for fields in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize(
    ("name", "layers", "vectors"),
    [
        # Blocks of 16 -> 64 -> 16, a scale and an offset before each and before the output.
        ("simba", 4 * 16 * 64, 16 + 2 * (64 + 16) + 3 * 2 * 16),
        # The same with a scale for every layer and the interpolation of each block.
        ("simba-v2", 4 * 16 * 64, 2 * 16 + 2 * 2 * (64 + 16) + 2 * 16),
        ("bronet", 4 * 16 * 16, 3 * 5 * 16),
        ("plain-mlp", 4 * 16 * 16, 5 * 16),
    ],
)
def test_recipe_parameters_and_operations_match_hand_computation(name, layers, vectors):
    agent = agent_of(name)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    kernels = 10 * 16 + layers + 16 * 4
    assert parameter_counts(state)["actor encoder"] == kernels + vectors + 4
    observation = jnp.zeros((7, CHAIN.states))
    work = arithmetic(lambda s, o: agent.act(s, o, o, jax.random.key(0), True), state, observation)
    assert work.flops == 2 * 7 * kernels
