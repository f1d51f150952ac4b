"""SAC and TD3 learn the analytic discounted value of a small problem, and what moves what."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.sac import SAC
from kilolayer.agents.td3 import TD3
from kilolayer.networks.arithmetic import arithmetic
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Transition
from probes import exhaustive

STATES, DISCOUNT = 5, 0.8
LENGTH, EPISODE_LENGTH, ENVS = 24, 6, 64
UPDATES, BATCH = 600, 64
TORSO = TorsoSpec(depth=2, width=32, layers_per_block=2)
SPEC = TaskSpec(STATES, 1, STATES)
RATES = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "target_rate": 0.05}


def one_hot_reward(achieved, goal):
    return (achieved * goal).sum(-1)


PROBLEM = Problem(SPEC, TORSO, TORSO, one_hot_reward)
AGENTS = {
    # Next to no weight on the entropy, or the value would hold it too.
    "sac": SAC(
        **({"hindsight_goal_share": 0.5, "initial_temperature": 1e-6, "discount": DISCOUNT} | RATES)
    ).on(PROBLEM),
    "td3": TD3(**({"hindsight_goal_share": 0.5, "discount": DISCOUNT} | RATES)).on(PROBLEM),
}


def two_ways() -> ring.Buffer:
    """Half the environments walk 0, 1, 2 and terminate; the others go 3, 4, 3, 4, ... until their
    time is up after six steps. Actions do nothing; any state may be the goal that was told."""
    episode_step = np.arange(LENGTH)[:, None] % np.where(np.arange(ENVS) % 2, EPISODE_LENGTH, 3)
    state = np.where(np.arange(ENVS) % 2, 3 + episode_step % 2, episode_step)
    generator = np.random.default_rng(0)
    place = jnp.asarray(np.eye(STATES)[state], jnp.float32)
    goals = generator.integers(STATES, size=state.shape)
    steps = Transition(
        observation=place,
        action=jnp.asarray(generator.uniform(-1, 1, (*state.shape, 1)), jnp.float32),
        achieved_goal=place,
        goal=jnp.asarray(np.eye(STATES)[goals], jnp.float32),
        episode_step=jnp.asarray(episode_step, jnp.int32),
    )
    return ring.insert(ring.init(LENGTH, ENVS, STATES, 1, STATES), steps)


def discounted_visits() -> np.ndarray:
    """`[state, goal]`: sum over k of discount^k where the goal is visited k steps later."""
    move = np.zeros((STATES, STATES))
    for state, following in ((0, 1), (1, 2), (3, 4), (4, 3)):
        move[state, following] = 1.0
    return np.linalg.inv(np.eye(STATES) - DISCOUNT * move)


@partial(jax.jit, static_argnums=0)
def train(agent, buffer: ring.Buffer):
    def update(state, key):
        sample_key, update_key = jax.random.split(key)
        batch = hindsight.sample(buffer, sample_key, BATCH, 1.0, EPISODE_LENGTH, False, True)
        return agent.update(state, batch, update_key)

    keys = jax.random.split(jax.random.key(1), UPDATES)
    return jax.lax.scan(update, agent.init(jax.random.key(0)), keys)


@pytest.fixture(scope="module", params=["sac", pytest.param("td3", marks=exhaustive)])
def trained(request):
    agent = AGENTS[request.param]
    return agent, *train(agent, two_ways())


def test_values_are_the_discounted_visits(trained):
    """Were termination bootstrapped, state 2 would be worth more than 1 to itself; were a cut by
    time not, states 3 and 4 would be worth less than 1 / (1 - discount^2) = 2.8 to themselves."""
    agent, state, _ = trained
    places, goals = (grid.ravel() for grid in np.indices((STATES, STATES)))
    eye, action = jnp.eye(STATES), jnp.zeros((STATES**2, 1))
    found = agent.rate(state, eye[places], action, eye[goals]).reshape(STATES, STATES)
    np.testing.assert_allclose(found, discounted_visits(), atol=0.2)


def test_every_metric_changes_and_is_finite(trained):
    _, _, metrics = trained
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name
        assert len(np.unique(values)) > 1, name
    assert {name.split("/")[0] for name in metrics} == {"critic", "actor"}


@pytest.fixture(scope="module")
def batch() -> hindsight.Batch:
    def draw(buffer: ring.Buffer) -> hindsight.Batch:
        return hindsight.sample(buffer, jax.random.key(0), BATCH, 1.0, EPISODE_LENGTH, False, True)

    return jax.jit(draw)(two_ways())


@partial(jax.jit, static_argnums=0)
def start(agent):
    return agent.init(jax.random.key(0))


def moved(before, after) -> bool:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


def test_td3_updates_actor_and_targets_every_second_update(batch):
    agent = AGENTS["td3"]
    update = jax.jit(agent.update)
    states = [start(agent)]
    for seed in range(4):
        states.append(update(states[-1], batch, jax.random.key(seed))[0])
    pairs = list(itertools.pairwise(states))
    assert all(moved(a.parameters.critic, b.parameters.critic) for a, b in pairs)
    for part in (lambda s: s.parameters.actor, lambda s: s.target.actor, lambda s: s.target.critic):
        assert [moved(part(a), part(b)) for a, b in pairs] == [False, True, False, True]


def test_td3_learning_rates_fall_together():
    """The actor takes a step at every second update, at the critic's rate there."""
    problem = dataclasses.replace(PROBLEM, updates=8)
    agent = TD3(final_learning_rate_share=0.1, constant_share=0.25).on(problem)
    rates = {}
    for part, steps in (("actor", 4), ("critic", 8)):
        optimiser, ones = agent.optimisers[part], jnp.ones(())
        state, rates[part] = optimiser.init(ones), []
        for _ in range(steps):  # Adam moves by the learning rate if the gradient is constant.
            step, state = optimiser.update(ones, state, ones)
            rates[part].append(-float(step))
    np.testing.assert_allclose(rates["actor"], rates["critic"][1::2], rtol=1e-4)
    assert rates["critic"][0] == pytest.approx(3e-4, rel=1e-4)
    assert rates["actor"][-1] < 0.3 * rates["actor"][0]


def test_td3_logs_the_newest_actor_loss(batch):
    agent = AGENTS["td3"]
    all_commanded = dataclasses.replace(agent, hindsight_goal_share=0.0)
    update, state, losses, expected = jax.jit(all_commanded.update), start(agent), [], 0.0
    for seed in range(4):
        before, key = state, jax.random.key(seed)
        state, metrics = update(before, batch, key)
        losses.append(float(metrics["actor/loss"]))
        if seed % 2:
            rows, actor = (batch.observation, batch.commanded_goal), before.parameters.actor
            # The critic has moved before the policy does.
            action = jnp.tanh(actor(jnp.concatenate(rows, -1)))
            values = state.parameters.critic(rows[0], action, rows[1])
            expected = -float(values[0].mean())
        assert losses[-1] == pytest.approx(expected, abs=1e-5)
    assert losses[1] == losses[2]


def test_td3_actor_loss_evaluates_one_critic(batch):
    critic = start(AGENTS["td3"]).parameters.critic
    rows = (batch.observation, batch.action, batch.goal)
    np.testing.assert_allclose(critic.first(*rows), critic(*rows)[0], atol=1e-5)
    assert 2 * arithmetic(critic.first, *rows).flops == arithmetic(critic, *rows).flops


def test_targets_move_by_their_rate(batch):
    agent = AGENTS["td3"]
    state = start(agent)
    after, _ = agent.update(
        dataclasses.replace(state, updates=jnp.int32(1)), batch, jax.random.key(3)
    )
    for old, new, target in zip(
        *map(jax.tree.leaves, (state.target, after.parameters, after.target)), strict=True
    ):
        np.testing.assert_allclose(target, 0.95 * old + 0.05 * new, atol=1e-6)


def test_the_target_takes_the_smaller_critic_and_smoothed_actions(batch):
    agent, key = AGENTS["td3"], jax.random.key(2)
    state = start(agent)
    rows = (batch.next_observation, batch.goal)
    plain = dataclasses.replace(agent, smoothing_noise=0.0)
    action = plain.smoothed_action(state.target.actor, *rows, key)
    noise = agent.smoothed_action(state.target.actor, *rows, key) - action
    assert 0.1 < float(noise.std()) < 0.25
    loud = dataclasses.replace(agent, smoothing_noise=9.0)
    assert float(jnp.abs(loud.smoothed_action(state.target.actor, *rows, key) - action).max()) <= (
        agent.smoothing_limit + 1e-6
    )
    values = state.parameters.critic(batch.observation, batch.action, batch.goal)
    energy = agent.rate(state, batch.observation, batch.action, batch.goal)
    assert values.shape == (2, BATCH)
    np.testing.assert_array_equal(energy, values.min(0))
    assert 0 < np.mean(values[0] < values[1]) < 1


def test_the_two_critics_have_separate_parameters(batch):
    agent = AGENTS["sac"]
    state = start(agent)
    rows = jnp.concatenate([batch.observation, batch.action, batch.goal], -1)
    together = state.parameters.critic(batch.observation, batch.action, batch.goal)
    for encoder, values in zip(state.parameters.critic.split(), together, strict=True):
        np.testing.assert_allclose(encoder(rows)[:, 0], values, atol=1e-5)


def test_only_the_exploring_action_has_noise(batch):
    agent = AGENTS["td3"]
    state = start(agent)
    rows = (batch.observation, batch.goal)
    mean, again, drawn = (
        np.asarray(agent.act(state, *rows, jax.random.key(seed), deterministic))
        for seed, deterministic in ((0, True), (1, True), (0, False))
    )
    np.testing.assert_array_equal(mean, again)
    assert (drawn - mean).std() == pytest.approx(agent.exploration_noise, rel=0.3)
    assert np.abs(drawn).max() <= 1


def test_report_covers_actor_and_both_critics(trained, batch):
    agent, state, _ = trained
    report = jax.jit(agent.networks)
    networks = report(state, batch, jax.random.key(0))
    assert set(networks) == {"actor", "critic 1", "critic 2"}
    elsewhere = dataclasses.replace(batch, commanded_goal=1 - batch.goal)
    same = report(state, elsewhere, jax.random.key(0))
    for name, network in networks.items():
        # The inputs hold the hindsight goals, so the gradients have to come from those alone.
        slopes = zip(*map(jax.tree.leaves, (network.gradient, same[name].gradient)), strict=True)
        assert all(np.array_equal(*pair) for pair in slopes)
        assert network.encoder(network.inputs).shape[0] == BATCH
        leaves = zip(*map(jax.tree.leaves, (network.encoder, network.gradient)), strict=True)
        assert all(weight.shape == slope.shape for weight, slope in leaves)
        assert float(jnp.abs(network.gradient.outputs.kernel).max()) > 0
