"""The agent: its updates, its actions, its metrics, and the cost of depth before the first step."""

import dataclasses
import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.lean import update_apart

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.crl import CRL, CRLState
from kilolayer.config import run_config
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay.hindsight import Batch
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.tasks.registry import make_task
from probes import contrastive_batch

BATCH, OBSERVATION, ACTION, GOAL = 16, 5, 2, 3
TORSO = TorsoSpec(depth=2, width=8, layers_per_block=2)
PROBLEM = Problem(TaskSpec(OBSERVATION, ACTION, GOAL), TORSO, TORSO)
AGENT = CRL(representation_dim=4).on(PROBLEM)
# Few variants, for each compiles an update of its own.
SHUFFLED = dataclasses.replace(AGENT, shuffled_goal_share=0.5)
BFLOAT16 = dataclasses.replace(TORSO, compute_dtype="bfloat16")
COARSE = AGENT.on(Problem(PROBLEM.task, BFLOAT16, BFLOAT16))
RATES = {"actor": 0.01, "critic": 0.02, "log_temperature": 0.03}
OTHER = dataclasses.replace(
    AGENT,
    contrastive_loss="binary",
    actor_learning_rate=RATES["actor"],
    critic_learning_rate=RATES["critic"],
    temperature_learning_rate=RATES["log_temperature"],
    initial_temperature=0.5,
    target_entropy_per_action=100.0,
)


def random_batch(seed: int) -> Batch:
    generator = np.random.default_rng(seed)

    def draw(size: int):
        return jnp.asarray(generator.normal(size=(BATCH, size)), jnp.float32)

    return contrastive_batch(draw(OBSERVATION), jnp.tanh(draw(ACTION)), draw(GOAL), draw(GOAL))


@partial(jax.jit, static_argnums=0)
def start(agent: CRL, seed: int) -> CRLState:
    return agent.init(jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def update(agent: CRL, state: CRLState, batch: Batch, seed: int):
    return agent.update(state, batch, jax.random.key(seed))


@partial(jax.jit, static_argnums=(0, 3))
def act(agent: CRL, state: CRLState, seed: int, deterministic: bool):
    batch = random_batch(0)
    key = jax.random.key(seed)
    return agent.act(state, batch.observation, batch.goal, key, deterministic)


def changed(before, after) -> list[bool]:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return [not np.array_equal(a, b) for a, b in pairs]


@pytest.mark.parametrize("agent", [AGENT, SHUFFLED, OTHER, COARSE])
def test_an_update_changes_every_parameter(agent):
    state = start(agent, 0)
    after, metrics = update(agent, state, random_batch(1), 0)
    assert all(changed(state.parameters, after.parameters))
    assert all(np.isfinite(value) for value in metrics.values())
    # Whatever the blocks compute in, losses and parameters are float32.
    floats = (*metrics.values(), *jax.tree.leaves(after.parameters))
    assert {value.dtype for value in floats} == {jnp.dtype("float32")}


def test_no_metric_is_constant():
    state, seen = start(AGENT, 0), []
    for index in range(6):
        state, metrics = update(AGENT, state, random_batch(index), index)
        seen.append({name: float(value) for name, value in metrics.items()})
    for name in seen[0]:
        assert len({metrics[name] for metrics in seen}) > 1, name
    parts = {name.split("/")[0] for name in seen[0]}
    assert parts == {"critic", "actor"}


def test_updates_are_pure_and_depend_on_the_key(assert_trees_equal):
    state, batch = start(AGENT, 0), random_batch(1)
    first, again, other = (update(AGENT, state, batch, seed)[0] for seed in (0, 0, 1))
    assert_trees_equal(first, again)
    assert any(changed(first.parameters.actor, other.parameters.actor))
    # The key draws the actor's actions alone.
    assert not any(changed(first.parameters.critic, other.parameters.critic))


def test_seeds_and_networks_have_different_initial_parameters():
    first, second = start(AGENT, 0), start(AGENT, 1)
    kernels = [
        leaf.ravel()[0]
        for leaf in jax.tree.leaves(first.parameters)
        if leaf.ndim > 1 and np.unique(leaf).size > 1
    ]
    assert len(np.unique(kernels)) == len(kernels)
    assert any(changed(first.parameters, second.parameters))


def test_updates_lower_the_critic_loss_on_a_fixed_batch():
    state, batch, losses = start(OTHER, 0), random_batch(1), []
    for index in range(60):
        state, metrics = update(OTHER, state, batch, index)
        losses.append(float(metrics["critic/loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert float(metrics["critic/accuracy"]) > 0.8


def test_only_sampled_actions_depend_on_the_key():
    state = start(AGENT, 0)
    means = [np.asarray(act(AGENT, state, seed, True)) for seed in (0, 1)]
    draws = [np.asarray(act(AGENT, state, seed, False)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(*means)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    for action in (*means, *draws):
        assert action.shape == (BATCH, ACTION)
        assert np.abs(action).max() <= 1
    # Every row and every coordinate has noise of its own.
    assert len(np.unique(np.arctanh(draws[0]) - np.arctanh(means[0]))) == BATCH * ACTION


def test_each_network_has_its_own_learning_rate():
    """Adam's first step moves each parameter by its rate, up to epsilon."""
    state = start(OTHER, 0)
    after, _ = update(OTHER, state, random_batch(1), 0)
    for part, rate in RATES.items():
        before, now = (jax.tree.leaves(getattr(s.parameters, part)) for s in (state, after))
        steps = [float(jnp.abs(a - b).max()) for a, b in zip(before, now, strict=True)]
        assert max(steps) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(("agent", "first"), [(AGENT, 1.0), (OTHER, 0.5)])
def test_temperature_follows_the_target_entropy(agent, first):
    state = start(agent, 0)
    after, metrics = update(agent, state, random_batch(1), 0)
    assert float(metrics["actor/temperature"]) == pytest.approx(first)
    rise = float(after.parameters.log_temperature - state.parameters.log_temperature)
    target = agent.target_entropy(state)
    assert target == agent.target_entropy_per_action * ACTION
    assert np.sign(rise) == np.sign(target - float(metrics["actor/entropy"])) != 0


def test_the_target_entropy_falls_after_the_constant_share_of_the_updates():
    agent = dataclasses.replace(
        AGENT,
        target_entropy_per_action=0.0,
        final_target_entropy_per_action=-1.0,
        constant_share=0.5,
        problem=dataclasses.replace(AGENT.bound, updates=4),
    )
    state, targets = start(agent, 0), []
    for seed in range(5):
        targets.append(float(agent.target_entropy(state)) / ACTION)
        state, _ = update(agent, state, random_batch(seed), seed)
    np.testing.assert_allclose(targets, [0, 0, 0, -0.5, -1.0])


def test_energy_is_the_diagonal_of_the_critic_logits():
    state, batch = start(AGENT, 0), random_batch(1)
    energies = AGENT.rate(state, batch.observation, batch.action, batch.goal)
    _, (metrics, _) = AGENT.critic_loss(state.parameters.critic, batch)
    assert energies.shape == (BATCH,)
    assert float(energies.mean()) == pytest.approx(float(metrics["positive_energy"]), abs=1e-4)


def test_shuffled_goals_affect_only_the_actor():
    state, batch = start(AGENT, 0), random_batch(1)
    plain, shuffled = (update(agent, state, batch, 0)[0] for agent in (AGENT, SHUFFLED))
    assert any(changed(plain.parameters.actor, shuffled.parameters.actor))
    critics = (jax.tree.leaves(s.parameters.critic) for s in (plain, shuffled))
    for ours, theirs in zip(*critics, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_share_of_the_actors_goals_is_shuffled_and_another_commanded():
    agent = dataclasses.replace(AGENT, shuffled_goal_share=0.5, commanded_goal_share=0.25)
    state, batch = start(agent, 0), random_batch(1)
    critic = state.parameters.critic
    batch = jax.tree.map(lambda leaf: jnp.tile(leaf, (64, 1)), batch)
    uniform = jax.random.uniform(jax.random.key(2), (len(batch.goal), 1))
    goals = agent.actor_goals(uniform, batch.goal, batch.commanded_goal)
    own, commanded = critic.goal(batch.goal), critic.goal(batch.commanded_goal)
    encodings = agent.actor_goals(uniform, own, commanded)
    np.testing.assert_allclose(encodings, critic.goal(goals), atol=1e-5)
    for share, source in (
        (0.25, batch.goal),
        (0.5, jnp.roll(batch.goal, 1, axis=0)),
        (0.25, batch.commanded_goal),
    ):
        assert np.all(goals == source, axis=1).mean() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("lean", [False, True])
def test_combined_loss_has_the_gradients_of_separate_losses(lean):
    """After a first update Adam's means are a tenth of the gradients."""
    torso = dataclasses.replace(TORSO, depth=4, lean=lean)
    mixed = dataclasses.replace(AGENT, shuffled_goal_share=0.5, commanded_goal_share=0.25)
    together = mixed.on(Problem(PROBLEM.task, torso, torso))
    plain = dataclasses.replace(torso, lean=False)
    alone = mixed.on(Problem(PROBLEM.task, plain, plain))
    batch, key = random_batch(1), jax.random.key(0)
    after, _ = update(together, start(together, 0), batch, 0)
    expected, _ = jax.jit(partial(update_apart, alone))(start(alone, 0), batch, key)
    leaves = (jax.tree.leaves(state.optimiser) for state in (after, expected))
    for ours, theirs in zip(*leaves, strict=True):
        assert float(jnp.abs(theirs).max()) > 0
        assert float(jnp.abs(ours - theirs).max()) <= 2e-6 * float(jnp.abs(theirs).max())


def test_config_builds_the_described_agent():
    config = run_config(
        task="ant", actor_depth=16, critic_depth=4, width=16, layers_per_block=2, energy="dot",
        contrastive_loss="symmetric", representation_dim=7, logsumexp_penalty=0.3,
        actor_learning_rate=1e-3, critic_learning_rate=2e-3, temperature_learning_rate=3e-3,
        initial_temperature=0.4, target_entropy_per_action=-0.2,
        shuffled_goal_share=0.25, commanded_goal_share=0.5,
        rematerialisation="block", scan_unroll=2, compute_dtype="bfloat16",
    )  # fmt: skip
    task = make_task("ant")
    schedule = TrainSchedule.derive(config, task.episode_length)
    agent = build_agent(config, schedule, task)
    shared = {"width": 16, "layers_per_block": 2, "rematerialisation": "block",
              "scan_unroll": 2, "compute_dtype": "bfloat16"}  # fmt: skip
    found = agent.bound
    assert found.task == TaskSpec(29, 8, 2)
    assert found.actor_torso == TorsoSpec(depth=16, branch_scale=0.25, **shared)
    assert found.critic_torso == TorsoSpec(depth=4, **shared)
    assert agent == CRL(
        representation_dim=7, energy="dot", contrastive_loss="symmetric", logsumexp_penalty=0.3,
        actor_learning_rate=1e-3, critic_learning_rate=2e-3, temperature_learning_rate=3e-3,
        initial_temperature=0.4, target_entropy_per_action=-0.2, shuffled_goal_share=0.25,
        commanded_goal_share=0.5,
    ).on(found)  # fmt: skip
    state = jax.eval_shape(agent.init, jax.random.key(0))
    assert state.parameters.actor.encoder.stack.blocks.layers[0].scale.shape == (8, 16)
    assert state.parameters.critic.goal.stack.blocks.layers[0].scale.shape == (2, 16)


def lower_update(depth: int):
    torso = TorsoSpec(depth=depth, width=32)
    agent = AGENT.on(Problem(PROBLEM.task, torso, torso))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    return jax.jit(agent.update).lower(state, random_batch(0), jax.random.key(0))


@pytest.mark.usefixtures("without_compilation_cache")
def test_compile_time_does_not_grow_with_depth():
    """A ratio of processor times, the better of two attempts: the machine's load has no part."""

    def seconds(depth: int) -> float:
        began = time.process_time()
        lower_update(depth).compile()
        return time.process_time() - began

    ratio = seconds(256) / seconds(8)
    if ratio > 1.5:
        ratio = seconds(256) / seconds(8)
    assert ratio <= 1.5


def test_program_size_does_not_grow_with_depth():
    """The same claim without a clock: the number of operations does not depend on depth."""
    shallow, deep = (len(lower_update(depth).as_text().splitlines()) for depth in (8, 256))
    assert shallow == deep > 100


def test_the_state_is_a_tree_of_arrays():
    state = start(AGENT, 0)
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(state))


def test_deterministic_share_of_environments_has_no_noise():
    agent = dataclasses.replace(AGENT, deterministic_env_share=0.25)
    state, batch, key = start(AGENT, 0), random_batch(0), jax.random.key(3)
    inputs = (batch.observation, batch.goal, key)
    mixed = np.asarray(agent.explore(state, *inputs))
    still, noisy = (np.asarray(AGENT.act(state, *inputs, how)) for how in (True, False))
    np.testing.assert_array_equal(mixed[:4], still[:4])
    np.testing.assert_array_equal(mixed[4:], noisy[4:])
    np.testing.assert_array_equal(AGENT.explore(state, *inputs), noisy)
