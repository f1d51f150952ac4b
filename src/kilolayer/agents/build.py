"""From a config to its agent."""

import dataclasses
from collections.abc import Callable

import optax

from kilolayer.agents.base import Agent, Reward, TaskSpec
from kilolayer.agents.collector_learner import CollectorLearner
from kilolayer.agents.crl import CRL
from kilolayer.agents.imitation import Imitation
from kilolayer.agents.ppo import PPO
from kilolayer.agents.sac import SAC
from kilolayer.agents.td3 import TD3
from kilolayer.config import TrainConfig
from kilolayer.lookup import find
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.plan import TrainPlan
from kilolayer.tasks.base import Task, is_success
from kilolayer.types import Array, bad_field


def task_spec(task: Task) -> TaskSpec:
    """The sizes of a task's observation, action and goal."""
    return TaskSpec(len(task.observation), task.action_dim, task.goal.dim)


def architecture(config: TrainConfig) -> Architecture:
    """How the config puts the layers of every network together."""
    return Architecture(
        residual=config.residual,
        norm=config.norm,
        norm_position=config.norm_position,
        activation=config.activation,
        branch_activation=config.branch_activation,
        expansion=config.expansion,
    )


def torso(config: TrainConfig, plan: TrainPlan, depth: int, branch_scale: float) -> TorsoSpec:
    """The deep part of a network: every agent has the same."""
    return TorsoSpec(
        depth=depth,
        width=config.width,
        layers_per_block=config.layers_per_block,
        rematerialisation=plan.rematerialisation,
        scan_unroll=config.scan_unroll,
        compute_dtype=config.compute_dtype,
        branch_scale=branch_scale,
        architecture=architecture(config),
    )


def torsos(config: TrainConfig, plan: TrainPlan) -> tuple[TorsoSpec, TorsoSpec]:
    """That of the actor and that of the critic's networks."""
    return (
        torso(config, plan, plan.actor_depth, plan.actor_branch_scale),
        torso(config, plan, plan.critic_depth, plan.critic_branch_scale),
    )


def build_crl(config: TrainConfig, plan: TrainPlan, task: Task) -> CRL | CollectorLearner:
    """Contrastive reinforcement learning with networks sized for the task.

    With a `collector_depth`, two such agents of which one collects for both.
    """
    actor_torso, critic_torso = torsos(config, plan)
    agent = CRL(
        task=task_spec(task),
        actor_torso=actor_torso,
        critic_torso=critic_torso,
        representation_dim=config.representation_dim,
        energy_kind=config.energy,
        loss_kind=config.contrastive_loss,
        logsumexp_penalty=config.logsumexp_penalty,
        actor_learning_rate=_falling(config.actor_learning_rate, config, plan),
        critic_learning_rate=_falling(config.critic_learning_rate, config, plan),
        weight_decay=config.weight_decay,
        temperature_learning_rate=config.temperature_learning_rate,
        initial_temperature=config.initial_temperature,
        target_entropy_per_action=config.target_entropy_per_action,
        shuffled_goal_share=config.shuffled_goal_share,
        commanded_goal_share=config.commanded_goal_share,
    )
    if plan.collector_depth is None:
        return agent
    collector = torso(config, plan, plan.collector_depth, plan.collector_branch_scale)
    return CollectorLearner(
        learner=agent,
        collector=dataclasses.replace(agent, actor_torso=collector, critic_torso=collector),
    )


def sparse_reward(task: Task) -> Reward:
    """1 within the goal's success radius, else 0."""

    def reward(achieved_goal: Array, goal: Array) -> Array:
        return is_success(task, achieved_goal, goal).astype("float32")

    return reward


def build_sac_her(config: TrainConfig, plan: TrainPlan, task: Task) -> SAC:
    """Soft actor-critic with hindsight goals."""
    actor_torso, critic_torso = torsos(config, plan)
    return SAC(
        task=task_spec(task),
        actor_torso=actor_torso,
        critic_torso=critic_torso,
        reward=sparse_reward(task),
        discount=_discount_of_rewards(config),
        hindsight_goal_share=config.hindsight_goal_share,
        target_rate=config.target_rate,
        actor_learning_rate=_falling(config.actor_learning_rate, config, plan),
        critic_learning_rate=_falling(config.critic_learning_rate, config, plan),
        weight_decay=config.weight_decay,
        temperature_learning_rate=config.temperature_learning_rate,
        initial_temperature=config.initial_temperature,
        target_entropy_per_action=config.target_entropy_per_action,
    )


def build_sac(config: TrainConfig, plan: TrainPlan, task: Task) -> SAC:
    """Soft actor-critic that learns from the goals told alone."""
    return dataclasses.replace(build_sac_her(config, plan, task), hindsight_goal_share=0.0)


def build_td3_her(config: TrainConfig, plan: TrainPlan, task: Task) -> TD3:
    """Twin delayed deep deterministic policy gradient with hindsight goals."""
    actor_torso, critic_torso = torsos(config, plan)
    return TD3(
        task=task_spec(task),
        actor_torso=actor_torso,
        critic_torso=critic_torso,
        reward=sparse_reward(task),
        discount=_discount_of_rewards(config),
        hindsight_goal_share=config.hindsight_goal_share,
        target_rate=config.target_rate,
        actor_learning_rate=_falling(config.actor_learning_rate, config, plan),
        critic_learning_rate=_falling(config.critic_learning_rate, config, plan),
        weight_decay=config.weight_decay,
    )


def build_ppo(config: TrainConfig, plan: TrainPlan, task: Task) -> PPO:
    """Proximal policy optimisation; raises UserError if an unroll is smaller than a batch."""
    steps = (config.unroll_length - 1) * config.num_envs
    if config.batch_size > steps:
        allowed = f"an unroll holds {steps} steps with a successor, and ppo learns from one alone"
        raise bad_field("batch_size", config.batch_size, allowed, steps)
    actor_torso, critic_torso = torsos(config, plan)
    return PPO(
        task=task_spec(task),
        actor_torso=actor_torso,
        critic_torso=critic_torso,
        reward=sparse_reward(task),
        episode_length=plan.episode_length,
        goal_interval=config.goal_interval,
        discount=_discount_of_rewards(config),
        actor_learning_rate=_falling(config.actor_learning_rate, config, plan),
        critic_learning_rate=_falling(config.critic_learning_rate, config, plan),
        weight_decay=config.weight_decay,
    )


def build_imitation(config: TrainConfig, plan: TrainPlan, task: Task) -> Imitation:
    """Goal-conditioned supervised learning; behaviour cloning, `bc`, sees no goal."""
    actor_torso, _ = torsos(config, plan)
    return Imitation(
        task=task_spec(task),
        actor_torso=actor_torso,
        learning_rate=_falling(config.actor_learning_rate, config, plan),
        weight_decay=config.weight_decay,
        sees_goal=config.agent != "bc",
    )


def _falling(rate: float, config: TrainConfig, plan: TrainPlan) -> optax.ScalarOrSchedule:
    """A learning rate that falls linearly over the run's updates to its final share."""
    share = config.final_learning_rate_share
    if share == 1:
        return rate
    updates = plan.training_unrolls * plan.updates_per_unroll
    return optax.linear_schedule(rate, share * rate, updates)


def _discount_of_rewards(config: TrainConfig) -> float:
    if config.discount == 1:
        allowed = f"agent {config.agent} adds up discounted rewards, so it must be below 1"
        raise bad_field("discount", config.discount, allowed, 0.99)
    return config.discount


AGENTS: dict[str, Callable[[TrainConfig, TrainPlan, Task], Agent]] = {
    "crl": build_crl,
    "sac": build_sac,
    "sac-her": build_sac_her,
    "td3-her": build_td3_her,
    "ppo": build_ppo,
    "gcsl": build_imitation,
    "gcbc": build_imitation,
    "bc": build_imitation,
}
# Of those, what learns from a dataset, and what learns from nothing else.
OFFLINE = ("crl", "gcbc", "bc")
OFFLINE_ONLY = ("gcbc", "bc")


def check_source(config: TrainConfig) -> None:
    """Raises UserError if the agent cannot learn from what the config gives it to learn from."""
    agent = config.agent
    if config.dataset is None and agent in OFFLINE_ONLY:
        allowed = "it learns from a dataset, so give one with --dataset"
        raise bad_field("agent", agent, allowed, "gcsl")
    if config.dataset is not None and agent in AGENTS and agent not in OFFLINE:
        allowed = f"it learns from its own steps, and from a dataset learn {', '.join(OFFLINE)}"
        raise bad_field("agent", agent, allowed, "gcbc" if agent == "gcsl" else "crl")


def build_agent(config: TrainConfig, plan: TrainPlan, task: Task) -> Agent:
    """The agent that `config.agent` names, or what the user's own `module:function` returns.

    Raises UserError with the nearest name if there is none.
    """
    if config.collector_depth is not None and config.agent != "crl":
        allowed = f"the agent {config.agent} collects for itself; leave it out, or take --agent crl"
        raise bad_field("collector_depth", config.collector_depth, allowed)
    return find("agent", config.agent, AGENTS)(config, plan, task)
