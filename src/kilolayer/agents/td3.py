"""Twin delayed deep deterministic policy gradient (arXiv 1802.09477), with hindsight goals
(1707.01495), on the same sparse reward as `kilolayer.agents.sac`."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import DeepNetwork
from kilolayer.agents.optimiser import (
    apply_gradients,
    init_moments,
    network_optimiser,
    polyak_update,
)
from kilolayer.agents.sac import TwinCriticAgent, critic_networks
from kilolayer.losses.temporal_difference import bootstrapped_target, critic_loss
from kilolayer.networks.encoders import Encoder, TwinCritic
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import Count, NonNegative
from kilolayer.types import Array, Metrics


class Parameters(eqx.Module):
    """actor: deterministic; `act` adds the exploration noise."""

    actor: Encoder
    critic: TwinCritic


class TD3State(eqx.Module):
    """target: Polyak averages of the parameters. optimiser: Adam's state by part. updates: their
    number. policy_loss: at the newest update of the policy; 0 before the first."""

    parameters: Parameters
    target: Parameters
    optimiser: dict[str, Any]
    updates: Array
    policy_loss: Array


@dataclass(frozen=True, kw_only=True)
class TD3(TwinCriticAgent):
    """Twin delayed deep deterministic policy gradient with hindsight goals.

    The standard deviations of the noise are those of arXiv 1802.09477, section 6.1, for actions in
    [-1, 1].
    """

    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions while collecting. Raise it to explore more."""
    smoothing_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target policy's actions."""
    smoothing_limit: NonNegative = 0.5
    """Largest absolute noise on the target policy's actions."""
    policy_delay: Count = 2
    """Critic updates per update of the actor and of all targets."""

    def init(self, key: Array) -> TD3State:
        actor_key, critic_key = jax.random.split(key)
        task = self.bound.task
        states = task.observation_dim + task.goal_dim
        parameters = Parameters(
            actor=Encoder.init(actor_key, states, task.action_dim, self.bound.actor_torso),
            critic=TwinCritic.init(critic_key, states + task.action_dim, self.bound.critic_torso),
        )
        # A copy: the training loop donates the state, and no array may be donated twice.
        target = jax.tree.map(jnp.copy, parameters)
        moments = init_moments(self.optimisers, parameters)
        return TD3State(parameters, target, moments, jnp.zeros((), jnp.int32), jnp.zeros(()))

    def act(
        self, state: TD3State, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        action = _action(state.parameters.actor, observation, goal)
        if deterministic:
            return action
        noise = self.exploration_noise * jax.random.normal(key, action.shape)
        return jnp.clip(action + noise, -1, 1)

    def update(self, state: TD3State, batch: Batch, key: Array) -> tuple[TD3State, Metrics]:
        goal_key, target_key = jax.random.split(key)
        goal = batch.mixed_goals(self.hindsight_goal_share, goal_key)
        gradient, metrics = self.critic_gradient(state, batch, goal, target_key)
        metrics["critic/gradient_norm"] = optax.tree.norm(gradient)
        parameters, moments = apply_gradients(
            self.optimisers, state.parameters, {"critic": gradient}, state.optimiser
        )
        updates = state.updates + 1
        state = TD3State(parameters, state.target, moments, updates, state.policy_loss)
        state = jax.lax.cond(
            updates % self.policy_delay == 0,
            self._update_policy,
            lambda state, *_: state,
            *(state, batch.observation, goal),
        )
        metrics["actor/loss"] = state.policy_loss
        return state, metrics

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        rate = self.schedule(self.actor_learning_rate)
        actor = self._at_policy_updates(rate) if callable(rate) else rate
        return super().optimisers | {"actor": network_optimiser(actor, self.weight_decay)}

    def _at_policy_updates(self, schedule: optax.Schedule) -> optax.Schedule:
        """A schedule over all updates as one over the policy's own, which its optimiser counts."""
        return lambda count: schedule(self.policy_delay * (count + 1) - 1)

    def critic_gradient(
        self, state: TD3State, batch: Batch, goal: Array, key: Array
    ) -> tuple[TwinCritic, Metrics]:
        """Gradient of the critics' loss on the batch with goals `[batch, goal]`, and metrics."""
        reward = self.bound.reward(batch.achieved_goal, goal)
        next_action = self.smoothed_action(state.target.actor, batch.next_observation, goal, key)
        next_value = state.target.critic(batch.next_observation, next_action, goal).min(0)
        target = bootstrapped_target(reward, next_value, batch.terminated, self.discount)

        def loss(critic: TwinCritic) -> tuple[Array, Metrics]:
            return critic_loss(critic(batch.observation, batch.action, goal), target)

        gradient, metrics = jax.grad(loss, has_aux=True)(state.parameters.critic)
        metrics = {f"critic/{name}": value for name, value in metrics.items()}
        return gradient, metrics | {"critic/reward": reward.mean()}

    def smoothed_action(self, actor: Encoder, observation: Array, goal: Array, key: Array) -> Array:
        """The target policy's action with clipped noise (equation 14)."""
        action = _action(actor, observation, goal)
        noise = self.smoothing_noise * jax.random.normal(key, action.shape)
        noise = jnp.clip(noise, -self.smoothing_limit, self.smoothing_limit)
        return jnp.clip(action + noise, -1, 1)

    def _update_policy(self, state: TD3State, observation: Array, goal: Array) -> TD3State:
        actor, critic = state.parameters.actor, state.parameters.critic
        loss, gradient = jax.value_and_grad(_policy_loss)(actor, critic, observation, goal)
        parameters, moments = apply_gradients(
            self.optimisers, state.parameters, {"actor": gradient}, state.optimiser
        )
        target = polyak_update(state.target, parameters, self.target_rate)
        return TD3State(parameters, target, moments, state.updates, loss)

    def networks(self, state: TD3State, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor and the two critics, with the batch's hindsight goals as inputs."""
        actor, critic = state.parameters.actor, state.parameters.critic
        critic_gradient, _ = self.critic_gradient(state, batch, batch.goal, key)
        actor_gradient = jax.grad(_policy_loss)(actor, critic, batch.observation, batch.goal)
        states = jnp.concatenate([batch.observation, batch.goal], -1)
        return {
            "actor": DeepNetwork(actor, states, actor_gradient),
            **critic_networks(critic, batch, critic_gradient),
        }


def _action(actor: Encoder, observation: Array, goal: Array) -> Array:
    return jnp.tanh(actor(jnp.concatenate([observation, goal], -1)))


def _policy_loss(actor: Encoder, critic: TwinCritic, observation: Array, goal: Array) -> Array:
    """`-mean Q_1(s, pi(s, g), g)` (arXiv 1802.09477, algorithm 1)."""
    return -critic.first(observation, _action(actor, observation, goal), goal).mean()
