"""Contrastive reinforcement learning (arXiv 2206.07568, with the choices of 2503.14858)."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import DeepNetwork, TaskSpec
from kilolayer.agents.optimiser import descend, init_moments, network_optimiser
from kilolayer.losses.actor import actor_loss, temperature_loss
from kilolayer.losses.contrastive import ContrastiveLoss, contrastive_loss
from kilolayer.losses.energies import Energy, pairwise, rowwise
from kilolayer.networks.actor import Actor, sample_action
from kilolayer.networks.encoders import Encoder, TorsoSpec
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics


class Critic(eqx.Module):
    """Two encoders; the energy of their outputs says how likely the goal lies in the future."""

    state_action: Encoder
    goal: Encoder

    def encode_pair(self, observation: Array, action: Array) -> Array:
        """phi(s, a): `[..., representation]`."""
        return self.state_action(jnp.concatenate([observation, action], -1))


class Parameters(eqx.Module):
    actor: Actor
    critic: Critic
    log_temperature: Array


class CRLState(eqx.Module):
    """optimiser: the optax state of each part of the parameters, by the part's name."""

    parameters: Parameters
    optimiser: dict[str, Any]


@dataclass(frozen=True)
class CRL:
    """The agent. A frozen value: its networks' shapes and the recipe, no state.

    shuffled_goal_share: share of the actor's batch whose goal is another row's hindsight goal, so
    that the actor also practises goals that lie far from the state. commanded_goal_share: share
    whose goal is the one that the world was told, which may lie farther than any state reached.
    """

    task: TaskSpec
    actor_torso: TorsoSpec
    critic_torso: TorsoSpec
    representation_dim: int = 64
    energy_kind: Energy = "l2"
    loss_kind: ContrastiveLoss = "forward"
    logsumexp_penalty: float = 0.1
    actor_learning_rate: optax.ScalarOrSchedule = 3e-4
    critic_learning_rate: optax.ScalarOrSchedule = 3e-4
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 1.0
    target_entropy_per_action: float = -0.5
    shuffled_goal_share: float = 0.0
    commanded_goal_share: float = 0.0
    weight_decay: float = 0.0

    def init(self, key: Array) -> CRLState:
        actor_key, pair_key, goal_key = jax.random.split(key, 3)
        task, out = self.task, self.representation_dim
        pair_dim = task.observation_dim + task.action_dim
        parameters = Parameters(
            actor=Actor.init(
                actor_key, task.observation_dim, task.goal_dim, task.action_dim, self.actor_torso
            ),
            critic=Critic(
                state_action=Encoder.init(pair_key, pair_dim, out, self.critic_torso),
                goal=Encoder.init(goal_key, task.goal_dim, out, self.critic_torso),
            ),
            log_temperature=jnp.log(jnp.float32(self.initial_temperature)),
        )
        return CRLState(parameters, init_moments(self.optimisers, parameters))

    def act(
        self, state: CRLState, observation: Array, goal: Array, key: Array, deterministic: bool
    ) -> Array:
        mean, log_std = state.parameters.actor(observation, goal)
        return jnp.tanh(mean) if deterministic else sample_action(mean, log_std, key)[0]

    def energy(self, state: CRLState, observation: Array, action: Array, goal: Array) -> Array:
        critic = state.parameters.critic
        return rowwise(self.energy_kind, critic.encode_pair(observation, action), critic.goal(goal))

    def update(self, state: CRLState, batch: Batch, key: Array) -> tuple[CRLState, Metrics]:
        parameters = state.parameters
        goal_key, action_key = jax.random.split(key)
        critic_gradient, (critic_metrics, psi) = jax.grad(self.critic_loss, has_aux=True)(
            parameters.critic, batch
        )
        goal, psi = self.actor_goals(parameters.critic, batch, psi, goal_key)
        actor_gradient, (actor_metrics, log_density) = jax.grad(self.actor_loss, has_aux=True)(
            parameters.actor, parameters, batch.observation, goal, psi, action_key
        )
        temperature_gradient = jax.grad(temperature_loss)(
            parameters.log_temperature, log_density, self.target_entropy
        )
        gradients = {
            "actor": actor_gradient,
            "critic": critic_gradient,
            "log_temperature": temperature_gradient,
        }
        state = CRLState(*descend(self.optimisers, parameters, gradients, state.optimiser))
        metrics = {f"critic/{name}": value for name, value in critic_metrics.items()}
        metrics |= {f"actor/{name}": value for name, value in actor_metrics.items()}
        metrics["critic/gradient_norm"] = optax.tree.norm(critic_gradient)
        metrics["actor/gradient_norm"] = optax.tree.norm(actor_gradient)
        metrics["actor/temperature"] = jnp.exp(parameters.log_temperature)
        return state, metrics

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

    def critic_loss(self, critic: Critic, batch: Batch) -> tuple[Array, tuple[Metrics, Array]]:
        """Contrastive loss; also returns the goal encodings psi, which the actor's loss reuses."""
        phi = critic.encode_pair(batch.observation, batch.action)
        psi = critic.goal(batch.goal)
        logits = pairwise(self.energy_kind, phi, psi)
        loss, metrics = contrastive_loss(self.loss_kind, logits, self.logsumexp_penalty)
        return loss, (metrics, psi)

    def actor_loss(
        self,
        actor: Actor,
        parameters: Parameters,
        observation: Array,
        goal: Array,
        psi: Array,
        key: Array,
    ) -> tuple[Array, tuple[Metrics, Array]]:
        """`mean[alpha log pi - f]`; also returns the log densities for the temperature."""
        mean, log_std = actor(observation, goal)
        action, log_density = sample_action(mean, log_std, key)
        phi = parameters.critic.encode_pair(observation, action)
        temperature = jnp.exp(parameters.log_temperature)
        energy = rowwise(self.energy_kind, phi, psi)
        loss, metrics = actor_loss(energy, log_density, temperature)
        return loss, (metrics, log_density)

    def actor_goals(
        self, critic: Critic, batch: Batch, psi: Array, key: Array
    ) -> tuple[Array, Array]:
        """The goals that the actor practises, and their encodings; `psi` are the batch's own."""
        goal = batch.goal
        uniform = jax.random.uniform(key, (goal.shape[0], 1))
        shuffled, commanded = self.shuffled_goal_share, self.commanded_goal_share
        if shuffled > 0.0:
            chosen = uniform < shuffled
            goal = jnp.where(chosen, jnp.roll(goal, 1, axis=0), goal)
            psi = jnp.where(chosen, jnp.roll(psi, 1, axis=0), psi)
        if commanded > 0.0:
            chosen = uniform >= 1.0 - commanded
            goal = jnp.where(chosen, batch.commanded_goal, goal)
            psi = jnp.where(chosen, critic.goal(batch.commanded_goal), psi)
        return goal, psi

    def networks(self, state: CRLState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor, with the batch's hindsight goals alone, and the critic's two encoders."""
        parameters = state.parameters
        actor, critic = parameters.actor, parameters.critic
        of_critic, (_, psi) = jax.grad(self.critic_loss, has_aux=True)(critic, batch)
        of_actor, _ = jax.grad(self.actor_loss, has_aux=True)(
            actor, parameters, batch.observation, batch.goal, psi, key
        )
        states = jnp.concatenate([batch.observation, batch.goal], -1)
        pairs = jnp.concatenate([batch.observation, batch.action], -1)
        return {
            "actor": DeepNetwork(actor.encoder, states, of_actor.encoder),
            "state-action encoder": DeepNetwork(critic.state_action, pairs, of_critic.state_action),
            "goal encoder": DeepNetwork(critic.goal, batch.goal, of_critic.goal),
        }
