"""Collector and learner: exploration, evaluation, and updates equal to separate agents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.migrate import COLLECTOR_LEARNER
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.studies.collector_learner import CollectorLearner, CollectorLearnerState
from kilolayer.tasks.registry import task_of
from kilolayer.training.build import build_trainer
from probes import contrastive_batch

CONFIG = run_config(
    agent=COLLECTOR_LEARNER,
    num_envs=4,
    unroll_length=5,
    layers_per_block=1,
    depth=1,
    collector_depth=3,
    width=8,
    representation_dim=4,
    batch_size=8,
    update_to_data=0.1,
    min_replay_steps_per_env=10,
    replay_steps_per_env=20,
)


def build(config: RunConfig):
    task = task_of(config.task)
    return build_agent(config, TrainSchedule.derive(config, task.episode_length), task)


@pytest.fixture(scope="module")
def agent() -> CollectorLearner:
    found = build(CONFIG)
    assert isinstance(found, CollectorLearner)
    return found


def test_collector_and_learner_have_their_depths(agent):
    assert agent.learner.bound.actor_torso.depth == 1
    assert agent.collector.bound.actor_torso.depth == 3
    assert agent.collector.bound.critic_torso.depth == 3
    assert agent.collector.bound.actor_torso.branch_scale == pytest.approx(2 / 3)


def test_collector_and_learner_update_as_separate_agents(agent, normal):
    state, key = jax.jit(agent.init)(jax.random.key(0)), jax.random.key(1)
    batch = contrastive_batch(
        normal(0, 8, 4), jnp.tanh(normal(1, 8, 2)), normal(2, 8, 2), normal(3, 8, 2)
    )
    found, metrics = jax.jit(agent.update)(state, batch, key)
    keys = jax.random.split(key)
    for name, part, own in (("", "learner", keys[0]), ("collector_", "collector", keys[1])):
        alone, expected = jax.jit(getattr(agent, part).update)(getattr(state, part), batch, own)
        leaves = zip(jax.tree.leaves(getattr(found, part)), jax.tree.leaves(alone), strict=True)
        for together, apart in leaves:
            np.testing.assert_allclose(together, apart, atol=1e-5)
        for metric, value in expected.items():
            assert metrics[f"{name}{metric}"] == pytest.approx(float(value), rel=1e-4, abs=1e-6)


def test_collector_explores_and_learner_is_evaluated(agent):
    """A change of the collector changes what is stored; a change of the learner does not."""
    trainer = build_trainer(CONFIG)
    state, collect = jax.jit(trainer.init)(), jax.jit(lambda state: trainer.collect(state)[0])
    other = jax.tree.map(lambda leaf: leaf + 0.3, state.agent)
    actions = {
        name: np.asarray(collect(dataclasses.replace(state, agent=agents)).buffer.steps.action)
        for name, agents in {
            "same": state.agent,
            "other learner": CollectorLearnerState(other.learner, state.agent.collector),
            "other collector": CollectorLearnerState(state.agent.learner, other.collector),
        }.items()
    }
    assert np.array_equal(actions["same"], actions["other learner"])
    assert not np.array_equal(actions["same"], actions["other collector"])
    observation, goal, key = jnp.ones((3, 4)), jnp.ones((3, 2)), jax.random.key(2)
    for deterministic in (True, False):
        act = agent.act(state.agent, observation, goal, key, deterministic)
        own = agent.learner.act(state.agent.learner, observation, goal, key, deterministic)
        assert np.array_equal(act, own)


def test_collector_depth_must_be_a_multiple_of_the_block():
    with pytest.raises(UserError, match=r"depth = 6 .* is 8"):
        build(CONFIG.having(collector_depth=6, layers_per_block=4, depth=4))


def test_collector_depth_is_refused_by_other_agents():
    with pytest.raises(UserError, match="no setting 'collector_depth'"):
        run_config(collector_depth=8)
