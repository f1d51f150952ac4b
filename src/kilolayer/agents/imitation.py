"""Supervised goal reaching: training makes the actions that were taken more likely.

With hindsight goals, this is goal-conditioned behaviour cloning on a dataset (GCBC, arXiv
1903.01973, as in arXiv 2410.20092), or iterated supervised learning if the agent's own policy
collects (GCSL, arXiv 1912.06088). Without goals, it is behaviour cloning.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import Agent, DeepNetwork, Sampling
from kilolayer.agents.optimiser import apply_gradients, init_moments
from kilolayer.networks.actor import Actor, Gaussian, action_log_prob, sample_action
from kilolayer.replay.hindsight import Batch
from kilolayer.types import Array, Metrics

# Larger recorded actions are clipped to this value, 3.8 before the tanh. An action at its bound has
# an infinite value before the tanh, and its log density would dominate the loss.
MAX_CLONED_ACTION = 0.999


class Parameters(eqx.Module):
    actor: Actor


class ImitationState(eqx.Module):
    parameters: Parameters
    optimiser: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Imitation(Agent):
    """Iterated supervised learning (GCSL): an actor without critic learns from its own steps."""

    def init(self, key: Array) -> ImitationState:
        parameters = Parameters(self.init_actor(key))
        return ImitationState(parameters, init_moments(self.optimisers, parameters))

    @property
    def sampling(self) -> Sampling:
        """From arXiv 1912.06088, algorithm 1; 2410.20092, section 5."""
        return Sampling("uniform")

    def distribution(self, state: ImitationState, observation: Array, goal: Array) -> Gaussian:
        return self._policy(state.parameters, observation, goal)

    def rate(self, state: ImitationState, observation: Array, action: Array, goal: Array) -> Array:
        """The log density of the action, `[...]`, as there is no critic."""
        return action_log_prob(*self._policy(state.parameters, observation, goal), action)

    def update(
        self, state: ImitationState, batch: Batch, key: Array
    ) -> tuple[ImitationState, Metrics]:
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.parameters, batch, key)
        gradients = {"actor": gradient.actor}
        metrics = {f"actor/{name}": value for name, value in metrics.items()}
        metrics["actor/gradient_norm"] = optax.tree.norm(gradient)
        updated = apply_gradients(self.optimisers, state.parameters, gradients, state.optimiser)
        return ImitationState(*updated), metrics

    def loss(self, parameters: Parameters, batch: Batch, key: Array) -> tuple[Array, Metrics]:
        """`-mean log pi(a|s,g)` of the actions taken, and metrics.

        squared_error: of the mean action, per coordinate. entropy: from one sampled action per row.
        """
        mean, log_std = self._policy(parameters, batch.observation, batch.goal)
        action = jnp.clip(batch.action, -MAX_CLONED_ACTION, MAX_CLONED_ACTION)
        loss = -jnp.mean(action_log_prob(mean, log_std, action))
        return loss, {
            "loss": loss,
            "squared_error": jnp.mean(jnp.square(jnp.tanh(mean) - batch.action)),
            "entropy": -jnp.mean(sample_action(mean, log_std, key)[1]),
        }

    def networks(self, state: ImitationState, batch: Batch, key: Array) -> dict[str, DeepNetwork]:
        """The actor, on the batch's hindsight goals."""
        gradient, _ = jax.grad(self.loss, has_aux=True)(state.parameters, batch, key)
        inputs = jnp.concatenate([batch.observation, self._goal_input(batch.goal)], -1)
        return {
            "actor": DeepNetwork(state.parameters.actor.encoder, inputs, gradient.actor.encoder)
        }

    def _policy(self, parameters: Parameters, observation: Array, goal: Array) -> Gaussian:
        return parameters.actor(observation, self._goal_input(goal))

    def _goal_input(self, goal: Array) -> Array:
        return goal if self.sees_goal else jnp.zeros_like(goal)

    @property
    def optimisers(self) -> dict[str, optax.GradientTransformation]:
        return {"actor": self.optimiser(self.actor_learning_rate)}


@dataclass(frozen=True, kw_only=True)
class GoalCloning(Imitation):
    """Goal-conditioned behaviour cloning of a dataset (GCBC)."""

    learns_from = ("dataset",)


@dataclass(frozen=True, kw_only=True)
class Cloning(GoalCloning):
    """Behaviour cloning of a dataset, without goals: the actor sees zeros in their place."""

    sees_goal = False
