"""A name and a config build the described agent, with the same torso for every agent."""

import jax.numpy as jnp
import pytest

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.ppo import PPO
from kilolayer.agents.registry import AGENTS, agent_class, name_of
from kilolayer.agents.sac import SAC, HindsightSAC
from kilolayer.agents.td3 import TD3
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.schedule import TrainSchedule, build_agent
from kilolayer.studies.collector_learner import CollectorLearner
from kilolayer.tasks.registry import make_task

CONFIG = run_config(
    task="ant", actor_depth=16, critic_depth=4, width=16, episode_length=70, goal_interval=30,
    discount=0.9, actor_learning_rate=1e-3, critic_learning_rate=2e-3,
    temperature_learning_rate=3e-3, initial_temperature=0.4, target_entropy_per_action=-0.2,
)  # fmt: skip


def build(agent="crl", **changes):
    config, task = CONFIG.having(agent=agent, **changes), make_task("ant")
    return build_agent(config, TrainSchedule.derive(config, task.episode_length), task)


@pytest.mark.parametrize("name", ["sac", "sac-her", "td3-her", "ppo"])
def test_every_agent_has_the_configured_depth(name):
    agent, crl = build(agent=name), build(agent="crl")
    ours, theirs = agent.bound, crl.bound
    assert (ours.actor_torso, ours.critic_torso) == (theirs.actor_torso, theirs.critic_torso)
    assert ours.actor_torso.depth == 16
    assert ours.task == TaskSpec(29, 8, 2)
    assert (ours.episode_length, ours.goal_interval) == (70, 30)


def test_switching_agents_keeps_shared_settings():
    shared = {"discount": 0.9, "actor_learning_rate": 1e-3, "critic_learning_rate": 2e-3}
    soft = {"temperature_learning_rate": 3e-3, "initial_temperature": 0.4,
            "target_entropy_per_action": -0.2}  # fmt: skip
    for name, expected in (
        ("sac", SAC(**shared, **soft)),
        ("sac-her", HindsightSAC(**shared, **soft)),
        ("td3-her", TD3(**shared)),
        ("ppo", PPO(**shared)),
    ):
        agent = build(agent=name)
        assert agent == expected.on(agent.bound)
    assert SAC().hindsight_goal_share == 0
    assert HindsightSAC().hindsight_goal_share == TD3().hindsight_goal_share == 0.8


@pytest.mark.parametrize("name", AGENTS)
def test_agent_names_round_trip(name):
    assert name_of(agent_class(name)) == name_of(AGENTS[name]()) == name


def test_user_agent_is_loaded_and_named():
    name = "examples.behaviour_cloning:BehaviourCloning"
    assert name_of(agent_class(name)) == name
    with pytest.raises(UserError, match=r"is no subclass of kilolayer\.agents\.base\.Agent"):
        agent_class("examples.behaviour_cloning:State")


def test_the_reward_is_one_within_the_goals_radius():
    agent, radius = build(agent="sac"), make_task("ant").goal.radius
    goal = jnp.array([[3.0, 4.0]] * 3)
    away = jnp.array([[0.0, 0.0], [0.99 * radius, 0.0], [1.01 * radius, 0.0]])
    assert agent.bound.reward(goal + away, goal).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("name", ["sac", "sac-her", "td3-her", "ppo"])
def test_rewards_without_a_discount_are_refused(name):
    with pytest.raises(UserError, match=r"discount = 1.0 .* below 1.*choice is 0.99"):
        build(agent=name, discount=1.0)


def test_ppo_batch_larger_than_the_unroll_is_refused():
    sizes = {"num_envs": 8, "unroll_length": 10, "min_replay_steps_per_env": 100}
    with pytest.raises(UserError, match=r"batch_size = 100 .* 72 steps .*choice is 72"):
        build(agent="ppo", batch_size=100, **sizes)
    assert build(agent="ppo", batch_size=72, **sizes)


def test_agents_say_whether_a_critic_of_actions_rates_them():
    found = {name for name, kind in AGENTS.items() if kind.has_action_critic}
    assert found == {"crl", "sac", "sac-her", "td3-her"}
    assert CollectorLearner.has_action_critic
