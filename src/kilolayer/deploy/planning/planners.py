"""Slow planners, which choose the next subgoals on the way to a distant goal.

A planner is a pytree with a pure `plan`. Whole episodes of planner and controller can therefore be
one compiled program, and the control loop calls the same `plan`. Each row of a batch is a separate
environment.
"""

from typing import Protocol

import equinox as eqx
import jax.numpy as jnp

from kilolayer.agents.crl import Critic
from kilolayer.losses.energies import Energy, pairwise, rowwise
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import Encoder
from kilolayer.types import Array
from kilolayer_robot.waypoints import Graph, subgoals


class Planner(Protocol):
    """Plans the next chunk of subgoals."""

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        """The next subgoals, `[batch, chunk, goal]`, the nearest first.

        observation `[batch, observation]`, achieved_goal and goal `[batch, goal]`. Once a chunk
        reaches the goal, it repeats the goal.
        """
        ...


class CriticValue(eqx.Module):
    """The critic's energy for the actor's deterministic action toward the goal.

    It is the log likelihood that the policy reaches the goal; greater means sooner.
    """

    actor: Actor
    critic: Critic
    energy: Energy = eqx.field(static=True)

    def encode(self, goal: Array) -> Array:
        """The part that depends only on the goal, `[..., goal] -> [..., encoding]`."""
        return self.critic.goal(goal)

    def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
        """`([..., observation], [..., goal], [..., encoding]) -> [...]`."""
        mean, _ = self.actor(observation, goal)
        phi = self.critic.encode_pair(observation, jnp.tanh(mean))
        return rowwise(self.energy, phi, encoding)


class Direct(eqx.Module):
    """No planning: every subgoal is the commanded goal."""

    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        return jnp.repeat(goal[:, None], self.chunk, axis=1)


class Waypoints(eqx.Module):
    """The shortest path over reached states, by the critic's distances.

    The search is that of `kilolayer_robot.waypoints`, with energies from the critic itself.
    `kilolayer.deploy.planning.build` builds this planner.

    Each node of the graph has an observation `[nodes, observation]` and the encoding of its place.
    """

    value: CriticValue
    observation: Array
    encoding: Array
    graph: Graph
    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        def pairs(rows: Array) -> Array:
            """`[nodes, dim]` or `[batch, 1, dim]` -> `[batch, nodes, dim]`."""
            return jnp.broadcast_to(rows, (len(goal), len(self.observation), rows.shape[-1]))

        encoding = self.value.encode(goal)
        from_state = self.value(
            pairs(observation[:, None]), pairs(self.graph.place), pairs(self.encoding)
        )
        from_nodes = self.value(
            pairs(self.observation), pairs(goal[:, None]), pairs(encoding[:, None])
        )
        direct = self.value(observation, goal, encoding)
        return subgoals(jnp, self.graph, (from_state, from_nodes, direct), goal, self.chunk)


class Interpolation(eqx.Module):
    """Evenly spaced points on the line from psi(achieved goal) to psi(goal), the goal at its end.

    Source: arXiv 2403.04082, where intermediate states have representations near this line. Our
    choice: each point is decoded to the nearest reached place. place `[places, goal]`; psi
    `[places, representation]`.
    """

    encoder: Encoder
    place: Array
    psi: Array
    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        start, end = self.encoder(achieved_goal)[:, None], self.encoder(goal)[:, None]
        share = jnp.linspace(0, 1, self.chunk + 1)[1:, None]
        points = start + share * (end - start)
        closeness = pairwise("squared_euclidean", points.reshape(-1, points.shape[-1]), self.psi)
        found = self.place[closeness.argmax(-1)].reshape(*points.shape[:2], -1)
        return found.at[:, -1].set(goal)


class Proposal(eqx.Module):
    """A learned high-level policy.

    It predicts the change of the achieved goal `interval`, 2 `interval`, ... steps ahead and
    proposes the mean. Each coordinate is divided by its spread `[chunk, goal]`.
    """

    actor: Actor
    spread: Array

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        mean, _ = self.actor(observation, goal)
        return achieved_goal[:, None] + mean.reshape(-1, *self.spread.shape) * self.spread
