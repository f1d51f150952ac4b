"""Proximal policy optimisation (arXiv 1707.06347) on the same sparse reward as
`kilolayer.agents.sac`. It learns on policy, from the newest unroll, with commanded goals."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import DeepNetwork, OnPolicyAgent, RewardAgent
from kilolayer.agents.optimiser import apply_gradients, init_moments
from kilolayer.losses.temporal_difference import (
    bootstrapped_target,
    clipped_policy_loss,
    critic_loss,
    gae,
)
from kilolayer.networks.actor import Actor, action_log_prob, deviations, sample_action
from kilolayer.networks.encoders import Encoder
from kilolayer.replay.buffer import CUT_OFF, Transition
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import NonNegative, Positive, Share
from kilolayer.types import Array, Metrics


class Parameters(eqx.Module):
    """critic: the value of (observation, goal)."""

    actor: Actor
    critic: Encoder


class PPOState(eqx.Module):
    """optimiser: Adam's state by part of the parameters."""

    parameters: Parameters
    optimiser: dict[str, Any]


class PPOBatch(eqx.Module):
    """Steps with their advantages and returns, leaves `[steps, ...]`.

    log_prob: log density of the action under the policy that took it. advantage: in standard
    deviations. returns: the critic's targets.
    """

    observation: Array
    action: Array
    goal: Array
    log_prob: Array
    advantage: Array
    returns: Array


@dataclass(frozen=True, kw_only=True)
class PPO(OnPolicyAgent, RewardAgent):
    """Proximal policy optimisation.

    Each update takes a batch of the newest unroll. A round passes over the unroll
    `updates * batch_size / steps` times.
    """

    has_action_critic = False  # its critic values states

    clip: Positive = 0.2
    """Clipping range of the probability ratio (arXiv 1707.06347, section 6.1). Lower it for smaller
    policy changes."""
    gae_lambda: Share = 0.95
    """Lambda of generalised advantage estimation (table 3). Lower it for less variance and more
    bias."""
    entropy_weight: NonNegative = 0.01
    """Weight of the entropy bonus (table 5). Raise it to explore more."""

    def init(self, key: Array) -> PPOState:
        actor_key, critic_key = jax.random.split(key)
        inputs = self.bound.task.observation_dim + self.bound.task.goal_dim
        parameters = Parameters(
            actor=self.init_actor(actor_key),
            critic=Encoder.init(critic_key, inputs, 1, self.bound.critic_torso),
        )
        return PPOState(parameters, init_moments(self.optimisers, parameters))

    def rate(self, state: PPOState, observation: Array, action: Array, goal: Array) -> Array:
        """The state's value minus half the squared distance of the action from the policy's mean,
        in standard deviations: without a critic of actions, the most likely one is best."""
        standardised = deviations(*state.parameters.actor(observation, goal), action)
        value = _value(state.parameters.critic, observation, goal)
        return value - 0.5 * jnp.square(standardised).sum(-1)

    def prepare(self, state: PPOState, unroll: Transition) -> PPOBatch:
        """All steps of the unroll except the last, whose successor is not in the unroll.

        The advantage is 0 for each step whose successor is unknown: the last step of a truncated
        episode, the last step before a goal change, and the last step before a cut-off.
        """
        step = jax.tree.map(lambda leaf: leaf[:-1], unroll)
        successor = jax.tree.map(lambda leaf: leaf[1:], unroll)
        value = _value(state.parameters.critic, unroll.observation, unroll.goal)
        continues = successor.episode_step == step.episode_step + 1
        cut_off = (step.episode_step == CUT_OFF) | (successor.episode_step == CUT_OFF)
        terminated = ~continues & ~cut_off & (step.episode_step + 1 < self.bound.episode_length)
        if self.bound.goal_interval is not None:
            continues &= successor.episode_step % self.bound.goal_interval != 0
        advantage = gae(
            self.bound.reward(step.achieved_goal, step.goal),
            value[:-1],
            value[1:],
            continues,
            terminated,
            self.discount,
            self.gae_lambda,
        )
        known = continues | terminated
        mean, deviation = advantage.mean(where=known), advantage.std(where=known)
        steps = PPOBatch(
            observation=step.observation,
            action=step.action,
            goal=step.goal,
            log_prob=_log_prob(state.parameters.actor, step.observation, step.goal, step.action),
            advantage=jnp.where(known, (advantage - mean) / (deviation + 1e-8), 0.0),
            returns=advantage + value[:-1],
        )
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), steps)

    def update(self, state: PPOState, batch: PPOBatch, key: Array) -> tuple[PPOState, Metrics]:
        gradients, metrics = self.gradients(state.parameters, batch, key)
        metrics["critic/gradient_norm"] = optax.tree.norm(gradients["critic"])
        metrics["actor/gradient_norm"] = optax.tree.norm(gradients["actor"])
        state = PPOState(
            *apply_gradients(self.optimisers, state.parameters, gradients, state.optimiser)
        )
        return state, metrics

    def gradients(
        self, parameters: Parameters, batch: PPOBatch, key: Array
    ) -> tuple[dict[str, Any], Metrics]:
        """Gradients of the critic's and the actor's loss on the batch, and metrics."""

        def critic_objective(critic: Encoder) -> tuple[Array, Metrics]:
            return critic_loss(_value(critic, batch.observation, batch.goal)[None], batch.returns)

        def actor_objective(actor: Actor) -> tuple[Array, Metrics]:
            mean, log_std = actor(batch.observation, batch.goal)
            log_ratio = action_log_prob(mean, log_std, batch.action) - batch.log_prob
            loss, metrics = clipped_policy_loss(log_ratio, batch.advantage, self.clip)
            entropy = -sample_action(mean, log_std, key)[1].mean()
            return loss - self.entropy_weight * entropy, metrics | {"entropy": entropy}

        critic, critic_metrics = jax.grad(critic_objective, has_aux=True)(parameters.critic)
        actor, actor_metrics = jax.grad(actor_objective, has_aux=True)(parameters.actor)
        metrics = {f"critic/{name}": value for name, value in critic_metrics.items()}
        metrics |= {f"actor/{name}": value for name, value in actor_metrics.items()}
        return {"actor": actor, "critic": critic}, metrics

    def networks(self, state: PPOState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor and the critic. The batch is no unroll, so the advantages are one-step."""
        actor, critic = state.parameters.actor, state.parameters.critic
        goal = batch.commanded_goal
        reward = self.bound.reward(batch.achieved_goal, goal)
        next_value = _value(critic, batch.next_observation, goal)
        returns = bootstrapped_target(reward, next_value, batch.terminated, self.discount)
        steps = PPOBatch(
            observation=batch.observation,
            action=batch.action,
            goal=goal,
            log_prob=_log_prob(actor, batch.observation, goal, batch.action),
            advantage=returns - _value(critic, batch.observation, goal),
            returns=returns,
        )
        gradients, _ = self.gradients(state.parameters, steps, key)
        inputs = jnp.concatenate([batch.observation, goal], -1)
        return {
            "actor": DeepNetwork(actor.encoder, inputs, gradients["actor"].encoder),
            "critic": DeepNetwork(critic, inputs, gradients["critic"]),
        }


def _value(critic: Encoder, observation: Array, goal: Array) -> Array:
    return critic(jnp.concatenate([observation, goal], -1))[..., 0]


def _log_prob(actor: Actor, observation: Array, goal: Array, action: Array) -> Array:
    return action_log_prob(*actor(observation, goal), action)
