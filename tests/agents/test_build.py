"""A name and a config give the agent that they describe, with the same torso whoever it is."""

import dataclasses

import jax.numpy as jnp
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.build import AGENTS, build_agent
from kilolayer.agents.ppo import PPO
from kilolayer.agents.sac import SAC
from kilolayer.agents.td3 import TD3
from kilolayer.config import TrainConfig
from kilolayer.plan import TrainPlan
from kilolayer.tasks.registry import make_task
from kilolayer.types import UserError

CONFIG = TrainConfig(
    task="ant", actor_depth=16, critic_depth=4, width=16, episode_length=70, discount=0.9,
    hindsight_goal_share=0.6, target_rate=0.02, actor_learning_rate=1e-3,
    critic_learning_rate=2e-3, temperature_learning_rate=3e-3, initial_temperature=0.4,
    target_entropy_per_action=-0.2,
)  # fmt: skip


def build(**changes):
    config, task = dataclasses.replace(CONFIG, **changes), make_task("ant")
    return build_agent(config, TrainPlan.derive(config, task.episode_length), task)


@pytest.mark.parametrize("name", ["sac", "sac-her", "td3-her", "ppo"])
def test_every_agent_is_as_deep_as_contrastive_learning(name):
    agent, crl = build(agent=name), build(agent="crl")
    assert (agent.actor_torso, agent.critic_torso) == (crl.actor_torso, crl.critic_torso)
    assert agent.actor_torso.depth == 16
    assert agent.task == TaskSpec(29, 8, 2)


def test_a_config_builds_the_agents_that_it_describes():
    shared = {"discount": 0.9, "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3}
    replayed = {"target_rate": 0.02}
    soft = {"temperature_learning_rate": 3e-3, "initial_temperature": 0.4,
            "target_entropy_per_action": -0.2}  # fmt: skip
    for name, kind, expected in (
        ("sac", SAC, {"hindsight_goal_share": 0.0, **replayed, **soft}),
        ("sac-her", SAC, {"hindsight_goal_share": 0.6, **replayed, **soft}),
        ("td3-her", TD3, {"hindsight_goal_share": 0.6, **replayed}),
        ("ppo", PPO, {"episode_length": 70}),
    ):
        agent = build(agent=name)
        parts = (agent.task, agent.actor_torso, agent.critic_torso, agent.reward)
        assert agent == kind(*parts, **shared, **expected)
    assert {"crl", "sac", "sac-her", "td3-her", "ppo"} <= set(AGENTS)


def test_the_reward_is_one_within_the_goals_radius():
    agent, radius = build(agent="sac"), make_task("ant").goal.radius
    goal = jnp.array([[3.0, 4.0]] * 3)
    away = jnp.array([[0.0, 0.0], [0.99 * radius, 0.0], [1.01 * radius, 0.0]])
    assert agent.reward(goal + away, goal).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["sac", "sac-her", "td3-her", "ppo"])
def test_rewards_without_a_discount_are_refused(name):
    with pytest.raises(UserError, match=rf"discount = 1.0 .*{name}.* below 1.*choice is 0.99"):
        build(agent=name, discount=1.0)


def test_a_batch_larger_than_the_unroll_that_ppo_learns_from_is_refused():
    sizes = {"num_envs": 8, "unroll_length": 10, "min_replay_steps_per_env": 100}
    with pytest.raises(UserError, match=r"batch_size = 100 .* 72 steps .*choice is 72"):
        build(agent="ppo", batch_size=100, **sizes)
    assert build(agent="ppo", batch_size=72, **sizes)
