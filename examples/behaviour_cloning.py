"""Add an agent: goal-conditioned behaviour cloning on the agent's own hindsight.

    kilolayer train --agent examples.behaviour_cloning:BehaviourCloning --total-steps 200000

An agent is a frozen dataclass whose fields are its hyperparameters: `--help` shows them, and
config.json keeps them. What changes while it learns lives in a state of its own making, whose
`parameters.actor` acts. This one makes the actions it took towards a goal that it happened to reach
more likely (arXiv 1912.06088): the deep actor, without a critic.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kilolayer.agents.base import Agent
from kilolayer.networks.actor import Actor
from kilolayer.replay.hindsight import Batch
from kilolayer.settings import PositiveShare
from kilolayer.types import Array, Metrics


class Parameters(eqx.Module):
    actor: Actor


class State(eqx.Module):
    parameters: Parameters
    optimiser: Any


@dataclass(frozen=True, kw_only=True)
class BehaviourCloning(Agent):
    """Goal-conditioned behaviour cloning of the agent's own steps."""

    largest_action: PositiveShare = 0.999
    """Actions nearer to their bounds count as this one, whose density is finite."""

    def init(self, key: Array) -> State:
        parameters = Parameters(self.init_actor(key))
        return State(parameters, self.optimiser(self.actor_learning_rate).init(parameters))

    def horizon_discount(self, done: Array | float) -> float:
        return 0.99

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, Metrics]:
        def loss(parameters: Parameters) -> Array:
            mean, log_std = parameters.actor(batch.observation, batch.goal)
            # The density before tanh; the change of variables does not depend on the actor.
            taken = jnp.arctanh(jnp.clip(batch.action, -self.largest_action, self.largest_action))
            return jnp.mean(log_std + 0.5 * jnp.square((taken - mean) * jnp.exp(-log_std)))

        value, gradient = jax.value_and_grad(loss)(state.parameters)
        optimiser = self.optimiser(self.actor_learning_rate)
        change, moments = optimiser.update(gradient, state.optimiser, state.parameters)
        parameters = optax.apply_updates(state.parameters, change)
        return State(parameters, moments), {"actor/loss": value}

    def rate(self, state: State, observation: Array, action: Array, goal: Array) -> Array:
        """No critic: the closer to the mean action, the better."""
        mean, _ = self.distribution(state, observation, goal)
        return -jnp.square(action - jnp.tanh(mean)).sum(-1)
