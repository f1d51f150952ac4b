"""From a config to its agent."""

from collections.abc import Callable

from kilolayer.agents.base import Agent, TaskSpec
from kilolayer.agents.crl import CRL
from kilolayer.agents.imitation import Imitation
from kilolayer.config import TrainConfig
from kilolayer.lookup import find
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.plan import TrainPlan
from kilolayer.tasks.base import Task
from kilolayer.types import bad_field


def task_spec(task: Task) -> TaskSpec:
    """The sizes of a task's observation, action and goal."""
    return TaskSpec(len(task.observation), task.action_dim, task.goal.dim)


def torso(config: TrainConfig, plan: TrainPlan, depth: int, branch_scale: float) -> TorsoSpec:
    """The deep part of a network, as the config has it."""
    return TorsoSpec(
        depth=depth,
        width=config.width,
        layers_per_block=config.layers_per_block,
        rematerialisation=plan.rematerialisation,
        scan_unroll=config.scan_unroll,
        compute_dtype=config.compute_dtype,
        branch_scale=branch_scale,
    )


def build_crl(config: TrainConfig, plan: TrainPlan, task: Task) -> CRL:
    """Contrastive reinforcement learning with networks sized for the task."""
    return CRL(
        task=task_spec(task),
        actor_torso=torso(config, plan, plan.actor_depth, plan.actor_branch_scale),
        critic_torso=torso(config, plan, plan.critic_depth, plan.critic_branch_scale),
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
    )


def build_imitation(config: TrainConfig, plan: TrainPlan, task: Task) -> Imitation:
    """Goal-conditioned supervised learning; behaviour cloning, `bc`, sees no goal."""
    return Imitation(
        task=task_spec(task),
        actor_torso=torso(config, plan, plan.actor_depth, plan.actor_branch_scale),
        learning_rate=config.actor_learning_rate,
        sees_goal=config.agent != "bc",
    )


AGENTS: dict[str, Callable[[TrainConfig, TrainPlan, Task], Agent]] = {
    "crl": build_crl,
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
    return find("agent", config.agent, AGENTS)(config, plan, task)
