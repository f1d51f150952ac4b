"""From a config to its agent."""

import dataclasses
from collections.abc import Callable

from kilolayer.agents.base import Agent, TaskSpec
from kilolayer.agents.collector_learner import CollectorLearner
from kilolayer.agents.crl import CRL
from kilolayer.config import TrainConfig
from kilolayer.lookup import find
from kilolayer.networks.block import Architecture
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.plan import TrainPlan
from kilolayer.tasks.base import Task
from kilolayer.types import bad_field


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


def build_crl(config: TrainConfig, plan: TrainPlan, task: Task) -> CRL | CollectorLearner:
    """Contrastive reinforcement learning with networks sized for the task.

    With a `collector_depth`, two such agents of which one collects for both.
    """

    def torso(depth: int, branch_scale: float) -> TorsoSpec:
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

    agent = CRL(
        task=task_spec(task),
        actor_torso=torso(plan.actor_depth, plan.actor_branch_scale),
        critic_torso=torso(plan.critic_depth, plan.critic_branch_scale),
        representation_dim=config.representation_dim,
        energy_kind=config.energy,
        loss_kind=config.contrastive_loss,
        logsumexp_penalty=config.logsumexp_penalty,
        actor_learning_rate=config.actor_learning_rate,
        critic_learning_rate=config.critic_learning_rate,
        temperature_learning_rate=config.temperature_learning_rate,
        initial_temperature=config.initial_temperature,
        target_entropy_per_action=config.target_entropy_per_action,
        shuffled_goal_share=config.shuffled_goal_share,
        commanded_goal_share=config.commanded_goal_share,
        weight_decay=config.weight_decay,
    )
    if plan.collector_depth is None:
        return agent
    collector = torso(plan.collector_depth, plan.collector_branch_scale)
    return CollectorLearner(
        learner=agent,
        collector=dataclasses.replace(agent, actor_torso=collector, critic_torso=collector),
    )


AGENTS: dict[str, Callable[[TrainConfig, TrainPlan, Task], Agent]] = {"crl": build_crl}


def build_agent(config: TrainConfig, plan: TrainPlan, task: Task) -> Agent:
    """The agent that `config.agent` names, or what the user's own `module:function` returns.

    Raises UserError with the nearest name if there is none.
    """
    if config.collector_depth is not None and config.agent != "crl":
        allowed = f"the agent {config.agent} collects for itself; leave it out, or take --agent crl"
        raise bad_field("collector_depth", config.collector_depth, allowed)
    return find("agent", config.agent, AGENTS)(config, plan, task)
