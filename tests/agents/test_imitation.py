"""Supervised goal reaching: its loss by an oracle, and problems whose best policy is known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.imitation import Cloning, GoalCloning, Imitation, ImitationState
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay import buffer as ring
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.schedule import check_data_source

TORSO = TorsoSpec(depth=2, width=32, layers_per_block=2)
ONE = TaskSpec(observation_dim=1, action_dim=1, goal_dim=1)
PROBLEM = Problem(ONE, TORSO, TORSO)
KEY = jax.random.key(0)


def begin(agent: Imitation) -> ImitationState:
    return jax.jit(agent.init)(KEY)


def batch_of(observation, action, goal) -> Batch:
    """What supervised learning reads of a batch; all else is noughts."""
    read = {"observation": observation, "action": action, "goal": goal}
    return Batch(**{f.name: read.get(f.name, 0 * goal) for f in dataclasses.fields(Batch)})


def random_batch(normal, size: int, task: TaskSpec) -> Batch:
    action = jnp.tanh(normal(1, size, task.action_dim))
    return batch_of(normal(0, size, task.observation_dim), action, normal(2, size, task.goal_dim))


def test_the_loss_is_the_negative_mean_log_density(normal):
    task = TaskSpec(observation_dim=3, action_dim=2, goal_dim=2)
    agent = Imitation().on(Problem(task, TORSO, TORSO))
    state, batch = begin(agent), random_batch(normal, 7, task)
    loss, metrics = jax.jit(agent.loss)(state.parameters, batch, KEY)

    mean, log_std = map(
        np.asarray, eqx.filter_jit(state.parameters.actor)(batch.observation, batch.goal)
    )
    action = np.asarray(batch.action, np.float64)
    density = norm.logpdf(np.arctanh(action), mean, np.exp(log_std)) - np.log(1 - action**2)
    np.testing.assert_allclose(loss, -density.sum(-1).mean(), rtol=1e-5)
    energy = jax.jit(agent.rate)(state, batch.observation, batch.action, batch.goal)
    np.testing.assert_allclose(energy, density.sum(-1), rtol=1e-4)
    error = np.square(np.tanh(mean) - action).mean()
    np.testing.assert_allclose(metrics["squared_error"], error, rtol=1e-5)


def test_actions_at_their_bounds_have_finite_gradients(normal):
    agent = Imitation().on(PROBLEM)
    batch = random_batch(normal, 4, ONE)
    batch = batch_of(batch.observation, jnp.sign(batch.action), batch.goal)
    state, metrics = jax.jit(agent.update)(begin(agent), batch, KEY)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((state, metrics)))


@pytest.mark.parametrize("sees_goal", [True, False])
def test_only_behaviour_cloning_ignores_the_goal(sees_goal, normal):
    kind = GoalCloning if sees_goal else Cloning
    agent, batch = kind().on(PROBLEM), random_batch(normal, 5, ONE)

    @jax.jit
    def both(state, goal):
        action = agent.act(state, batch.observation, goal, KEY, deterministic=True)
        return action, agent.rate(state, batch.observation, batch.action, goal)

    state = begin(agent)
    for one, other in zip(both(state, batch.goal), both(state, -batch.goal), strict=True):
        assert bool((one == other).all()) is not sees_goal


def noisy_recording(episodes: int) -> ring.Buffer:
    """Episodes of two steps: an action tanh(u), u ~ N(0, 1/2), achieves u and noise of N(0, 1/2).

    So u, given what was achieved, is N(goal / 2, 1/8); without the goal it is N(0, 1/4).
    """
    generator = np.random.default_rng(0)
    u, noise = 0.5 * generator.normal(size=(2, episodes))
    one_env = (2 * episodes, 1, 1)
    steps = Transition(
        observation=jnp.zeros(one_env),
        action=jnp.asarray(np.stack([np.tanh(u), 0 * u], 1).reshape(one_env), jnp.float32),
        achieved_goal=jnp.asarray(np.stack([0 * u, u + noise], 1).reshape(one_env), jnp.float32),
        goal=jnp.zeros(one_env),
        episode_step=jnp.tile(jnp.arange(2), episodes)[:, None],
    )
    return ring.Buffer(steps, jnp.int32(2 * episodes))


@pytest.mark.parametrize(
    ("sees_goal", "slope", "deviation"), [(True, 0.5, 8**-0.5), (False, 0, 0.5)]
)
def test_cloning_learns_the_action_distribution(sees_goal, slope, deviation):
    kind = GoalCloning if sees_goal else Cloning
    agent = kind(actor_learning_rate=2e-3).on(PROBLEM)
    buffer = noisy_recording(20_000)

    def update(state, key):
        batch = hindsight.sample(buffer, key, 256, 1.0, 2)
        return agent.update(state, batch, key)

    run = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys))
    state, metrics = run(begin(agent), jax.random.split(KEY, 400))
    goal = jnp.linspace(-1, 1, 9)[:, None]
    mean, log_std = jax.jit(agent._policy)(state.parameters, 0 * goal, goal)
    np.testing.assert_allclose(mean, slope * goal, atol=0.08)
    np.testing.assert_allclose(jnp.exp(log_std), deviation, atol=0.06)
    assert metrics["actor/loss"][-50:].mean() < metrics["actor/loss"][:20].mean()


def test_gcsl_learns_to_reach_commanded_goals():
    """One step in which the action is what is achieved: the only right answer is the goal itself.

    The policy collects all data by itself, and begins with actions near zero.
    """
    agent = Imitation(actor_learning_rate=2e-3).on(PROBLEM)
    goal = jnp.linspace(-0.8, 0.8, 9)[:, None]

    def practise(state, key):
        goal_key, act_key, update_key = jax.random.split(key, 3)
        commanded = jax.random.uniform(goal_key, (128, 1), minval=-0.8, maxval=0.8)
        action = agent.act(state, 0 * commanded, commanded, act_key, deterministic=False)
        return agent.update(state, batch_of(0 * commanded, action, action), update_key)

    run = jax.jit(lambda state, keys: jax.lax.scan(practise, state, keys)[0])
    before = begin(agent)
    after = run(before, jax.random.split(KEY, 600))
    act = jax.jit(agent.act, static_argnums=4)
    error = [abs(act(s, 0 * goal, goal, KEY, True) - goal).max() for s in (before, after)]
    assert error[0] > 0.5
    assert error[1] < 0.1


@pytest.mark.parametrize(
    ("agent", "dataset", "words"),
    [
        ("gcbc", None, "agent = 'gcbc' is not allowed: it learns from a dataset.*choice is gcsl"),
        ("bc", None, "set --dataset"),
        (
            "gcsl",
            "some.npz",
            "agent = 'gcsl' .*cannot learn from a dataset, unlike crl, gcbc, bc; .*choice is gcbc",
        ),
    ],
)
def test_agent_requires_matching_data_source(agent, dataset, words):
    with pytest.raises(UserError, match=words):
        check_data_source(run_config(agent=agent, dataset=dataset))


@pytest.mark.parametrize(
    ("agent", "dataset"),
    [("crl", None), ("gcsl", None), ("crl", "d"), ("gcbc", "d"), ("bc", "d")],
)
def test_agent_with_matching_data_source_is_accepted(agent, dataset):
    check_data_source(run_config(agent=agent, dataset=dataset))
