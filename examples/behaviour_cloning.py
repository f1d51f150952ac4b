"""Add an agent: goal-conditioned behaviour cloning on the agent's own hindsight.

    kilolayer train --agent examples.behaviour_cloning:build --total-steps 200000

An agent is a frozen value with the functions of `kilolayer.agents.base.Agent`; what changes while
it learns lives in a state of its own making. This one makes the actions it took towards a goal
that it happened to reach more likely (arXiv 1912.06088): the deep actor, without a critic.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import TaskSpec
from kilolayer.agents.build import task_spec
from kilolayer.config import TrainConfig
from kilolayer.networks.actor import Actor, sample_action
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.plan import TrainPlan
from kilolayer.replay.hindsight import Batch
from kilolayer.tasks.base import Task
from kilolayer.types import Array, Metrics


class State(eqx.Module):
    actor: Actor
    optimiser: Any


@dataclass(frozen=True)
class BehaviourCloning:
    task: TaskSpec
    torso: TorsoSpec
    learning_rate: float

    def init(self, key: Array) -> State:
        task = self.task
        actor = Actor.init(key, task.observation_dim, task.goal_dim, task.action_dim, self.torso)
        return State(actor, optax.adam(self.learning_rate).init(actor))

    def act(
        self, state: State, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        mean, log_std = state.actor(observation, goal)
        return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, Metrics]:
        def loss(actor: Actor) -> Array:
            mean, log_std = actor(batch.observation, batch.goal)
            # The density before tanh; the change of variables does not depend on the actor.
            taken = jnp.arctanh(jnp.clip(batch.action, -0.999, 0.999))
            return jnp.mean(log_std + 0.5 * jnp.square((taken - mean) * jnp.exp(-log_std)))

        value, gradient = jax.value_and_grad(loss)(state.actor)
        optimiser = optax.adam(self.learning_rate)
        change, moments = optimiser.update(gradient, state.optimiser, state.actor)
        actor = optax.apply_updates(state.actor, change)
        return State(actor, moments), {"actor/loss": value}

    def energy(self, state: State, observation: Array, action: Array, goal: Array) -> Array:
        """No critic: the closer to the mean action, the better."""
        return -jnp.square(action - jnp.tanh(state.actor(observation, goal)[0])).sum(-1)


def build(config: TrainConfig, plan: TrainPlan, task: Task) -> BehaviourCloning:
    torso = TorsoSpec(
        plan.actor_depth,
        config.width,
        config.layers_per_block,
        plan.rematerialisation,
        branch_scale=plan.actor_branch_scale,
    )
    return BehaviourCloning(task_spec(task), torso, config.actor_learning_rate)
