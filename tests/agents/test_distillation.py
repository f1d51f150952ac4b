"""Distillation: which policy acts, what the student learns, which parameters stay fixed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.agents.base import Problem, TaskSpec
from kilolayer.agents.distillation import Distillation, DistillationState
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import TorsoSpec
from probes import contrastive_batch

TASK = TaskSpec(observation_dim=3, action_dim=2, goal_dim=2)


@pytest.fixture
def agent(random_module) -> Distillation:
    teacher = random_module(Actor.init, 3, 2, 2, TorsoSpec(depth=4, width=8, layers_per_block=2))
    torso = TorsoSpec(depth=2, width=8, layers_per_block=2)
    agent = Distillation(
        teacher=teacher, teacher_acts=0.5, hindsight_share=1.0, actor_learning_rate=1e-2
    )
    return agent.on(Problem(TASK, torso, torso, updates=60))


def test_teacher_share_falls_from_one_to_zero(agent):
    # To none after half of the 60 updates.
    shares = agent.teacher_share(jnp.array([-1, 14, 29, 59]))
    np.testing.assert_allclose(shares, [1, 0.5, 0, 0], atol=1e-6)
    never = dataclasses.replace(agent, teacher_acts=0.0)
    assert never.teacher_share(jnp.array(0)) == 0


def test_the_teacher_acts_in_its_share_of_the_environments(agent, normal):
    state = agent.init(jax.random.key(0))
    state = dataclasses.replace(state, updates=jnp.array(14))
    observation, goal, key = normal(0, 4, 3), normal(1, 4, 2), jax.random.key(1)
    acted = agent.explore(state, observation, goal, key)
    by_teacher = jnp.tanh(agent.teacher(observation, goal)[0])
    by_student = agent.act(state, observation, goal, key, deterministic=True)
    # Of four environments the first two are the teacher's, and in two there is noise.
    np.testing.assert_allclose(acted[1], by_teacher[1], rtol=1e-5)
    np.testing.assert_allclose(acted[3], by_student[3], rtol=1e-5)
    assert (abs(acted[0] - by_teacher[0]) > 1e-4).all()
    assert (abs(acted[2] - by_student[2]) > 1e-4).all()


def learnt(agent: Distillation, batch) -> tuple[DistillationState, dict]:
    def update(state: DistillationState, key) -> tuple[DistillationState, dict]:
        return agent.update(state, batch, key)

    keys = jax.random.split(jax.random.key(1), agent.bound.updates)
    return jax.jit(lambda state: jax.lax.scan(update, state, keys))(agent.init(jax.random.key(0)))


def test_student_learns_the_teachers_actions(agent, normal, assert_trees_equal):
    observation, goal = normal(0, 32, 3), normal(1, 32, 2)
    action, unused = jnp.zeros((32, 2)), jnp.full((32, 2), jnp.nan)
    state, metrics = learnt(agent, contrastive_batch(observation, action, goal, unused))
    divergence = metrics["student/divergence"]
    assert divergence[-1] < 0.1 * divergence[0]
    np.testing.assert_allclose(metrics["student/loss"], divergence, rtol=1e-6)
    assert metrics["student/squared_error"][-1] < metrics["student/squared_error"][0]
    assert_trees_equal(state.teacher, agent.teacher)


def test_critic_weights_emphasise_costly_actions(agent, normal):
    """A critic that depends only on the first half of the rows gives the other rows equal
    weights."""
    observation, goal = normal(0, 32, 3), normal(1, 32, 2)
    affected = jnp.arange(32) < 16

    def energy(critic, observation, action, goal):
        teacher = jnp.tanh(agent.teacher(observation, goal)[0])
        return -critic * affected * jnp.square(action - teacher).sum(-1)

    weighted = dataclasses.replace(agent, rate_of=energy, critic=jnp.float32(2.0))
    state = weighted.init(jax.random.key(0))
    targets = state.teacher(observation, goal)
    rows = np.asarray(
        jax.vmap(
            lambda o, g, m, s: agent.loss(
                state.parameters.actor, (m[None], s[None]), None, o[None], g[None]
            )[0]
        )(observation, goal, *targets)
    )
    change = np.square(
        np.tanh(state.parameters.actor(observation, goal)[0]) - np.tanh(targets[0])
    ).sum(-1)
    cost = 2.0 * np.asarray(affected) * change
    expected = np.mean((0.5 + 0.5 * cost / cost.mean()) * rows)
    loss, metrics = weighted.loss(state.parameters.actor, targets, state.critic, observation, goal)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["student/divergence"]) == pytest.approx(rows.mean(), rel=1e-4)
