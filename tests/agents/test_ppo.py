"""PPO: returns and advantages of an unroll, and learning on a one-step task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.ppo import PPO
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay.buffer import CUT_OFF, Transition
from kilolayer.training.step import shuffled_passes
from probes import contrastive_batch

TORSO = TorsoSpec(depth=2, width=16, layers_per_block=2)
RADIUS, TIME, ENVS, BATCH, UPDATES = 0.3, 9, 64, 128, 16


def reward(achieved, goal):
    return (jnp.abs(achieved - goal).sum(-1) < RADIUS).astype(jnp.float32)


PROBLEM = Problem(TaskSpec(1, 1, 1), TORSO, TORSO, reward, episode_length=4)
AGENT = PPO(discount=0.9, actor_learning_rate=3e-3, critic_learning_rate=3e-3).on(PROBLEM)


def echo(state, key) -> Transition:
    """An unroll in an environment where each step achieves the action before it; goals are 0.6 or
    -0.6, episodes of four steps begin at 0."""
    goal_key, key = jax.random.split(key)
    new_goals = jax.random.choice(goal_key, jnp.array([-0.6, 0.6]), (TIME, ENVS, 1))
    episode_step = jnp.arange(TIME) % 4

    def step(carry, time):
        place, goal = carry
        began = episode_step[time] == 0
        place, goal = jnp.where(began, 0.0, place), jnp.where(began, new_goals[time], goal)
        action = AGENT.act(state, place, goal, jax.random.fold_in(key, time), False)
        episode_steps = jnp.full(ENVS, episode_step[time])
        return (action, goal), Transition(place, action, place, goal, episode_steps)

    start = jnp.zeros((ENVS, 1))
    return jax.lax.scan(step, (start, start), jnp.arange(TIME))[1]


@jax.jit
def learn(state, key):
    """One round: an unroll, then its updates; returns the mean reward of later steps too."""
    unroll_key, order_key, update_key = jax.random.split(key, 3)
    unroll = echo(state, unroll_key)
    steps = AGENT.prepare(state, unroll)

    def update(state, numbered):
        rows, key = numbered
        return AGENT.update(state, jax.tree.map(lambda leaf: leaf[rows], steps), key)

    rows = shuffled_passes(order_key, (TIME - 1) * ENVS, UPDATES, BATCH)
    keys = jax.random.split(update_key, UPDATES)
    state, metrics = jax.lax.scan(update, state, (rows, keys))
    return state, reward(unroll.achieved_goal, unroll.goal)[1:4].mean(), metrics


def test_ppo_learns_to_reach_commanded_goals():
    state, scores, seen = AGENT.init(jax.random.key(0)), [], []
    for key in jax.random.split(jax.random.key(1), 40):
        state, score, metrics = learn(state, key)
        scores.append(float(score))
        seen.append(metrics)
    assert scores[0] < 0.4
    assert np.mean(scores[-5:]) > 0.85
    for name in seen[0]:
        values = np.concatenate([metrics[name] for metrics in seen])
        assert np.isfinite(values).all()
        assert len(np.unique(values)) > 1, name


@pytest.fixture(scope="module")
def batch_of_steps():
    """An unroll of known ages: the first environment's episode runs out of time after the fourth
    step, the second's terminates after the third."""
    state = AGENT.init(jax.random.key(0))
    episode_step = jnp.array([[0, 0], [1, 1], [2, 2], [3, 0], [0, 1], [1, 2]])
    place = jax.random.normal(jax.random.key(1), (6, 2, 1))
    action = jnp.tanh(jax.random.normal(jax.random.key(2), (6, 2, 1)))
    unroll = Transition(place, action, place, 0.5 * jnp.ones((6, 2, 1)), episode_step)
    return state, unroll, AGENT.prepare(state, unroll)


def values_of(state, unroll) -> np.ndarray:
    mean, _ = state.parameters.actor(unroll.observation, unroll.goal)
    return np.asarray(AGENT.rate(state, unroll.observation, jnp.tanh(mean), unroll.goal))


def test_returns_handle_termination_and_truncation(batch_of_steps):
    state, unroll, steps = batch_of_steps
    value = values_of(state, unroll)
    rewards = np.asarray(reward(unroll.achieved_goal, unroll.goal))
    returns = np.asarray(steps.returns).reshape(5, 2)
    # What follows the step whose time was up is not known: its value stands.
    assert returns[3, 0] == pytest.approx(value[3, 0], abs=1e-4)
    assert returns[2, 1] == pytest.approx(rewards[2, 1], abs=1e-4)
    # The last step of the unroll serves as a successor alone.
    assert returns[4, 0] == pytest.approx(rewards[4, 0] + 0.9 * value[5, 0], abs=1e-4)
    one_before = rewards[1, 1] + 0.9 * value[2, 1] - value[1, 1]
    expected = value[1, 1] + one_before + 0.9 * 0.95 * (returns[2, 1] - value[2, 1])
    assert returns[1, 1] == pytest.approx(expected, abs=1e-4)


def test_returns_exclude_steps_after_a_divergence(batch_of_steps):
    """The second environment diverges after its third step, which only its episode step shows."""
    state, unroll, steps = batch_of_steps
    diverged = dataclasses.replace(unroll, episode_step=unroll.episode_step.at[2, 1].set(CUT_OFF))
    cut = AGENT.prepare(state, diverged)
    for row in (1, 2):
        returns, value = np.asarray(cut.returns).reshape(5, 2), values_of(state, unroll)
        assert returns[row, 1] == pytest.approx(value[row, 1], abs=1e-4)
        assert np.asarray(cut.advantage).reshape(5, 2)[row, 1] == 0.0
        assert np.asarray(steps.advantage).reshape(5, 2)[row, 1] != 0.0


def test_returns_exclude_steps_for_another_goal(batch_of_steps):
    """With another goal at episode step 2, the second environment's earlier steps are cut there."""
    state, unroll, steps = batch_of_steps
    cut = AGENT.on(dataclasses.replace(PROBLEM, goal_interval=2)).prepare(state, unroll)
    before = np.flatnonzero(np.asarray(unroll.episode_step)[1:, 1] == 2)[0]
    returns = np.asarray(cut.returns).reshape(5, 2)
    assert returns[before, 1] == pytest.approx(values_of(state, unroll)[before, 1], abs=1e-4)
    assert np.asarray(cut.advantage).reshape(5, 2)[before, 1] == 0.0
    assert np.asarray(steps.advantage).reshape(5, 2)[before, 1] != 0.0


def test_advantages_are_normalised_over_valid_steps(batch_of_steps):
    _, _, steps = batch_of_steps
    advantage = np.asarray(steps.advantage).reshape(5, 2)
    assert advantage[3, 0] == 0.0
    known = np.delete(advantage.ravel(), 6)
    assert known.mean() == pytest.approx(0.0, abs=1e-5)
    assert known.std() == pytest.approx(1.0, abs=1e-4)


def test_first_ppo_update_has_ratio_one(batch_of_steps):
    state, _, steps = batch_of_steps
    _, metrics = AGENT.gradients(state.parameters, steps, jax.random.key(0))
    assert float(metrics["actor/clipped_share"]) == 0.0
    assert float(metrics["actor/loss"]) == pytest.approx(-float(steps.advantage.mean()), abs=1e-5)


def test_most_likely_action_has_the_highest_energy():
    state = AGENT.init(jax.random.key(0))
    place, goal = jnp.zeros((41, 1)), jnp.full((41, 1), 0.6)
    mean, log_std = state.parameters.actor(place[:1], goal[:1])
    action = jnp.linspace(-0.9, 0.9, 41)[:, None]
    energy = AGENT.rate(state, place, action, goal)
    at_mean = AGENT.rate(state, place[:1], jnp.tanh(mean), goal[:1])[0]
    np.testing.assert_allclose(
        energy,
        at_mean - 0.5 * ((jnp.arctanh(action) - mean) / jnp.exp(log_std))[:, 0] ** 2,
        rtol=1e-4,
        atol=1e-4,
    )


def test_every_step_is_used_once_per_pass():
    rows = np.asarray(shuffled_passes(jax.random.key(0), 10, 6, 4))
    assert rows.shape == (6, 4)
    flat = rows.ravel()
    for first in (0, 10):
        assert sorted(flat[first : first + 10]) == list(range(10))
    assert len(set(flat[20:])) == 4
    assert not np.array_equal(flat[:10], flat[10:20])


def test_report_covers_actor_and_critic():
    state = AGENT.init(jax.random.key(0))
    rows = jax.random.normal(jax.random.key(1), (4, 32, 1))
    batch = contrastive_batch(rows[0], jnp.tanh(rows[1]), rows[2], rows[3])
    batch = dataclasses.replace(batch, achieved_goal=rows[0], next_observation=rows[1])
    networks = AGENT.networks(state, batch, jax.random.key(0))
    assert set(networks) == {"actor", "critic"}
    for network in networks.values():
        assert np.isfinite(network.gradient.outputs.kernel).all()
        assert float(jnp.abs(network.gradient.stack.blocks.layers[0].dense.kernel).max()) > 0
