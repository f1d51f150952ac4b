"""Soft actor-critic (arXiv 1812.05905) on a sparse reward, with hindsight goals (1707.01495).

The reward belongs to the state, r(s, g) = 1 within the goal's radius and else 0, and an episode
that reaches its goal goes on: the value is the discounted time at the goal.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import DeepNetwork, Reward, Sampling, TaskSpec
from kilolayer.agents.optimiser import descend, follow, init_moments, network_optimiser
from kilolayer.losses.actor import actor_loss, temperature_loss
from kilolayer.losses.temporal_difference import bootstrapped_target, critic_loss, soft_value
from kilolayer.networks.actor import Actor, sample_action
from kilolayer.networks.critics import TwinCritic
from kilolayer.networks.encoders import TorsoSpec
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics


class Parameters(eqx.Module):
    actor: Actor
    critic: TwinCritic
    log_temperature: Array


class SACState(eqx.Module):
    """target: the critic that values are bootstrapped from; optimiser: Adam's state by part."""

    parameters: Parameters
    target: TwinCritic
    optimiser: dict[str, Any]


@dataclass(frozen=True)
class SAC:
    """The agent. A frozen value: its networks' shapes and the recipe, no state.

    hindsight_goal_share: share of the batch whose goal is one that the episode came to later
    (strategy "future" of arXiv 1707.01495, four of five there); the rest keeps the goal told.
    target_rate: share of the way that the target critic moves to the critic at each update.
    """

    task: TaskSpec
    actor_torso: TorsoSpec
    critic_torso: TorsoSpec
    reward: Reward
    discount: float = 0.99
    hindsight_goal_share: float = 0.0
    target_rate: float = 0.005
    actor_learning_rate: optax.ScalarOrSchedule = 3e-4
    critic_learning_rate: optax.ScalarOrSchedule = 3e-4
    weight_decay: float = 0.0
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 1.0
    target_entropy_per_action: float = -0.5

    sampling: ClassVar[Sampling] = Sampling("uniform", terminal_steps=True)

    def init(self, key: Array) -> SACState:
        actor_key, critic_key = jax.random.split(key)
        task = self.task
        inputs = task.observation_dim + task.action_dim + task.goal_dim
        parameters = Parameters(
            actor=Actor.init(
                actor_key, task.observation_dim, task.goal_dim, task.action_dim, self.actor_torso
            ),
            critic=TwinCritic.init(critic_key, inputs, self.critic_torso),
            log_temperature=jnp.log(jnp.float32(self.initial_temperature)),
        )
        # A copy: the training loop donates the state, and no array may be given away twice.
        target = jax.tree.map(jnp.copy, parameters.critic)
        return SACState(parameters, target, init_moments(self.optimisers, parameters))

    def act(
        self, state: SACState, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        mean, log_std = state.parameters.actor(observation, goal)
        return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]

    def energy(self, state: SACState, observation: Array, action: Array, goal: Array) -> Array:
        """The smaller of the two critics' discounted times at the goal."""
        return state.parameters.critic(observation, action, goal).min(0)

    def update(self, state: SACState, batch: Batch, key: Array) -> tuple[SACState, Metrics]:
        parameters = state.parameters
        gradients, metrics, log_density = self.gradients(state, batch, key)
        gradients["log_temperature"] = jax.grad(temperature_loss)(
            parameters.log_temperature, log_density, self.target_entropy
        )
        metrics["critic/gradient_norm"] = optax.tree.norm(gradients["critic"])
        metrics["actor/gradient_norm"] = optax.tree.norm(gradients["actor"])
        metrics["actor/temperature"] = jnp.exp(parameters.log_temperature)
        parameters, moments = descend(self.optimisers, parameters, gradients, state.optimiser)
        target = follow(state.target, parameters.critic, self.target_rate)
        return SACState(parameters, target, moments), metrics

    @property
    def target_entropy(self) -> float:
        return self.target_entropy_per_action * self.task.action_dim

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        """By part; weights decay in networks alone."""
        return {
            "actor": network_optimiser(self.actor_learning_rate, self.weight_decay),
            "critic": network_optimiser(self.critic_learning_rate, self.weight_decay),
            "log_temperature": optax.adam(self.temperature_learning_rate),
        }

    def gradients(
        self, state: SACState, batch: Batch, key: Array
    ) -> tuple[dict[str, Any], Metrics, Array]:
        """Of the critic's and the actor's loss, metrics, and the log densities of new actions."""
        goal_key, next_key, action_key = jax.random.split(key, 3)
        parameters = state.parameters
        goal = batch.mixed_goals(self.hindsight_goal_share, goal_key)
        reward = self.reward(batch.achieved_goal, goal)
        next_value = self.next_value(state, batch.next_observation, goal, next_key)
        target = bootstrapped_target(reward, next_value, batch.terminated, self.discount)

        def of_critic(critic: TwinCritic) -> tuple[Array, Metrics]:
            return critic_loss(critic(batch.observation, batch.action, goal), target)

        def of_actor(actor: Actor) -> tuple[Array, tuple[Metrics, Array]]:
            action, log_density = sample_action(*actor(batch.observation, goal), action_key)
            value = parameters.critic(batch.observation, action, goal).min(0)
            temperature = jnp.exp(parameters.log_temperature)
            loss, metrics = actor_loss(value, log_density, temperature)
            return loss, (metrics, log_density)

        critic, critic_metrics = jax.grad(of_critic, has_aux=True)(parameters.critic)
        actor, (actor_metrics, log_density) = jax.grad(of_actor, has_aux=True)(parameters.actor)
        metrics = {f"critic/{name}": value for name, value in critic_metrics.items()}
        metrics |= {f"actor/{name}": value for name, value in actor_metrics.items()}
        metrics["critic/reward"] = reward.mean()
        return {"actor": actor, "critic": critic}, metrics, log_density

    def next_value(self, state: SACState, observation: Array, goal: Array, key: Array) -> Array:
        """What the target critic expects of acting on from `observation`, `[batch]`."""
        action, log_density = sample_action(*state.parameters.actor(observation, goal), key)
        temperature = jnp.exp(state.parameters.log_temperature)
        return soft_value(state.target(observation, action, goal), log_density, temperature)

    def networks(self, state: SACState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor and the two critics, with the batch's hindsight goals as inputs."""
        gradients, _, _ = self.gradients(state, batch, key)
        actor = state.parameters.actor.encoder
        states = jnp.concatenate([batch.observation, batch.goal], -1)
        return {
            "actor": DeepNetwork(actor, states, gradients["actor"].encoder),
            **critic_networks(state.parameters.critic, batch, gradients["critic"]),
        }


def critic_networks(
    critic: TwinCritic, batch: Batch, gradient: TwinCritic
) -> dict[str, DeepNetwork]:
    """Twin critics for the report, with the batch's hindsight goals as inputs."""
    inputs = jnp.concatenate([batch.observation, batch.action, batch.goal], -1)
    pairs = zip(critic.split(), gradient.split(), strict=True)
    return {
        f"critic {number}": DeepNetwork(encoder, inputs, own)
        for number, (encoder, own) in enumerate(pairs, start=1)
    }
