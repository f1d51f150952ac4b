"""Soft actor-critic (arXiv 1812.05905) on a sparse reward, with hindsight goals (1707.01495).

The reward depends on the state: r(s, g) = 1 within the goal's radius, else 0. An episode continues
after it reaches its goal, so the value is the discounted time at the goal.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import DeepNetwork, EntropyAgent, RewardAgent, Sampling
from kilolayer.agents.optimiser import apply_gradients, init_moments, polyak_update
from kilolayer.losses.actor import actor_loss, temperature_loss
from kilolayer.losses.temporal_difference import bootstrapped_target, critic_loss, soft_value
from kilolayer.networks.actor import Actor, sample_action
from kilolayer.networks.encoders import TwinCritic
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import PositiveShare, Share
from kilolayer.types import Array, Metrics


class Parameters(eqx.Module):
    actor: Actor
    critic: TwinCritic
    log_temperature: Array


class SACState(eqx.Module):
    """target: the critic for bootstrapped values; optimiser: Adam's state of each part."""

    parameters: Parameters
    target: TwinCritic
    optimiser: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TwinCriticAgent(RewardAgent):
    """An off-policy agent with two critics and their target networks."""

    hindsight_goal_share: Share = 0.8
    """Share of the batch with a hindsight goal (strategy `future` of arXiv 1707.01495). The rest
    keeps the commanded goal."""
    target_rate: PositiveShare = 0.005
    """Polyak rate: share of the way that target networks move at each update. Lower it if the
    critic is unstable."""

    @property
    def sampling(self) -> Sampling:
        return Sampling("uniform", terminal_steps=True)

    def rate(self, state: Any, observation: Array, action: Array, goal: Array) -> Array:
        """The smaller of the two critics' estimates of the discounted time at the goal."""
        return state.parameters.critic(observation, action, goal).min(0)


@dataclass(frozen=True, kw_only=True)
class SAC(TwinCriticAgent, EntropyAgent):
    """Soft actor-critic on commanded goals."""

    hindsight_goal_share: Share = 0.0
    """Share of the batch with a hindsight goal (strategy `future` of arXiv 1707.01495). The rest
    keeps the commanded goal."""

    def init(self, key: Array) -> SACState:
        actor_key, critic_key = jax.random.split(key)
        task = self.bound.task
        inputs = task.observation_dim + task.action_dim + task.goal_dim
        parameters = Parameters(
            actor=self.init_actor(actor_key),
            critic=TwinCritic.init(critic_key, inputs, self.bound.critic_torso),
            log_temperature=jnp.log(jnp.float32(self.initial_temperature)),
        )
        # A copy: the training loop donates the state, and no array may be donated twice.
        target = jax.tree.map(jnp.copy, parameters.critic)
        return SACState(parameters, target, init_moments(self.optimisers, parameters))

    def update(self, state: SACState, batch: Batch, key: Array) -> tuple[SACState, Metrics]:
        parameters = state.parameters
        gradients, metrics, log_prob = self.gradients(state, batch, key)
        gradients["log_temperature"] = jax.grad(temperature_loss)(
            parameters.log_temperature, log_prob, self.target_entropy
        )
        metrics["critic/gradient_norm"] = optax.tree.norm(gradients["critic"])
        metrics["actor/gradient_norm"] = optax.tree.norm(gradients["actor"])
        metrics["actor/temperature"] = jnp.exp(parameters.log_temperature)
        parameters, moments = apply_gradients(
            self.optimisers, parameters, gradients, state.optimiser
        )
        target = polyak_update(state.target, parameters.critic, self.target_rate)
        return SACState(parameters, target, moments), metrics

    @property
    def target_entropy(self) -> float:
        return self.target_entropy_per_action * self.bound.task.action_dim

    def gradients(
        self, state: SACState, batch: Batch, key: Array
    ) -> tuple[dict[str, Any], Metrics, Array]:
        """Gradients of the critic's and the actor's loss, metrics, log densities of new actions."""
        goal_key, next_key, action_key = jax.random.split(key, 3)
        parameters = state.parameters
        goal = batch.mixed_goals(self.hindsight_goal_share, goal_key)
        reward = self.bound.reward(batch.achieved_goal, goal)
        next_value = self.next_value(state, batch.next_observation, goal, next_key)
        target = bootstrapped_target(reward, next_value, batch.terminated, self.discount)

        def critic_objective(critic: TwinCritic) -> tuple[Array, Metrics]:
            return critic_loss(critic(batch.observation, batch.action, goal), target)

        def actor_objective(actor: Actor) -> tuple[Array, tuple[Metrics, Array]]:
            action, log_prob = sample_action(*actor(batch.observation, goal), action_key)
            value = parameters.critic(batch.observation, action, goal).min(0)
            temperature = jnp.exp(parameters.log_temperature)
            loss, metrics = actor_loss(value, log_prob, temperature)
            return loss, (metrics, log_prob)

        critic, critic_metrics = jax.grad(critic_objective, has_aux=True)(parameters.critic)
        actor, (actor_metrics, log_prob) = jax.grad(actor_objective, has_aux=True)(parameters.actor)
        metrics = {f"critic/{name}": value for name, value in critic_metrics.items()}
        metrics |= {f"actor/{name}": value for name, value in actor_metrics.items()}
        metrics["critic/reward"] = reward.mean()
        return {"actor": actor, "critic": critic}, metrics, log_prob

    def next_value(self, state: SACState, observation: Array, goal: Array, key: Array) -> Array:
        """The target critic's soft value of `observation` under the policy, `[batch]`."""
        action, log_prob = sample_action(*state.parameters.actor(observation, goal), key)
        temperature = jnp.exp(state.parameters.log_temperature)
        return soft_value(state.target(observation, action, goal), log_prob, temperature)

    def networks(self, state: SACState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor and the two critics, with the batch's hindsight goals as inputs."""
        # Its gradients then come from the same goals as its inputs.
        batch = dataclasses.replace(batch, commanded_goal=batch.goal)
        gradients, _, _ = self.gradients(state, batch, key)
        actor = state.parameters.actor.encoder
        states = jnp.concatenate([batch.observation, batch.goal], -1)
        return {
            "actor": DeepNetwork(actor, states, gradients["actor"].encoder),
            **critic_networks(state.parameters.critic, batch, gradients["critic"]),
        }


@dataclass(frozen=True, kw_only=True)
class HindsightSAC(SAC):
    """Soft actor-critic with hindsight goals."""

    hindsight_goal_share: Share = 0.8
    """Share of the batch with a hindsight goal (strategy `future` of arXiv 1707.01495). The rest
    keeps the commanded goal."""


def critic_networks(
    critic: TwinCritic, batch: Batch, gradient: TwinCritic
) -> dict[str, DeepNetwork]:
    """Twin critics for the report, with the batch's hindsight goals as inputs."""
    inputs = jnp.concatenate([batch.observation, batch.action, batch.goal], -1)
    pairs = zip(critic.split(), gradient.split(), strict=True)
    return {
        f"critic {number}": DeepNetwork(encoder, inputs, its_gradient)
        for number, (encoder, its_gradient) in enumerate(pairs, start=1)
    }
