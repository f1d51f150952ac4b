"""Slow planners: what to head for next on the way to a goal that lies far.

A planner is a pytree with a pure `plan`, so that whole episodes of planner and controller are one
compiled program, and the control loop calls the same one. It plans for as many rows as it is given:
every row is a world of its own.
"""

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.agents.crl import Critic
from kilolayer.losses.energies import Energy, pairwise, rowwise
from kilolayer.networks.actor import Actor
from kilolayer.networks.encoders import Encoder
from kilolayer.types import Array


class Planner(Protocol):
    """Emits plan chunks."""

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        """The next subgoals, `[batch, chunk, goal]`, the nearest first.

        observation `[batch, observation]`, achieved_goal and goal `[batch, goal]`. A chunk that
        comes to the goal repeats it.
        """
        ...


class Value(Protocol):
    """How likely a policy reaches a goal, a logarithm; the greater the sooner."""

    def encode(self, goal: Array) -> Array:
        """What of a goal can be computed once for all states, `[..., goal] -> [..., encoding]`."""
        ...

    def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
        """`([..., observation], [..., goal], [..., encoding]) -> [...]`."""
        ...


class CriticValue(eqx.Module):
    """The critic's energy of the action that the actor takes toward the goal."""

    actor: Actor
    critic: Critic
    energy: Energy = eqx.field(static=True)

    def encode(self, goal: Array) -> Array:
        return self.critic.goal(goal)

    def __call__(self, observation: Array, goal: Array, encoding: Array) -> Array:
        mean, _ = self.actor(observation, goal)
        phi = self.critic.encode_pair(observation, jnp.tanh(mean))
        return rowwise(self.energy, phi, encoding)


class Direct(eqx.Module):
    """No planner: the goal itself."""

    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        return jnp.repeat(goal[:, None], self.chunk, axis=1)


class Waypoints(eqx.Module):
    """The shortest path over places that were reached, by the critic's distances.

    After search on the replay buffer (arXiv 1906.05253), with the contrastive distance of arXiv
    2406.17098: energies f are log p(goal | state) - log p(goal), so d(i, j) = f(j, j) - f(i, j) =
    -log [p(j | i) / p(j | j)] >= 0, which is log(1 / discount) for each step of the way, and adds
    up along a way. The critic knows near pairs best, so only those with d <= limit are joined.

    Of each node: observation `[nodes, observation]`, place `[nodes, goal]`, its encoding, and own
    `[nodes]`, f(j, j). length `[nodes, nodes]`: of the shortest paths, infinite where there is
    none; following `[nodes, nodes]`: the node after i on the way to j. Made by
    `kilolayer.deploy.planning.waypoints`.
    """

    value: Value
    observation: Array
    place: Array
    encoding: Array
    own: Array
    length: Array
    following: Array
    limit: Array
    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        first, last, through = self._way(observation, goal)

        def next_node(node: Array, _: None) -> tuple[Array, Array]:
            # A node of -1 stands for the goal.
            onward = jnp.where(node == last, -1, self.following[node, last])
            return jnp.where(node < 0, -1, onward), node

        start = jnp.where(through, first, -1)
        _, nodes = jax.lax.scan(next_node, start, length=self.chunk)
        nodes = nodes.T[..., None]
        return jnp.where(nodes < 0, goal[:, None], self.place[nodes[..., 0]])

    def _way(self, observation: Array, goal: Array) -> tuple[Array, Array, Array]:
        """First and last node of the best way, `[batch]` each, and whether it beats going
        directly."""
        batch, nodes = len(goal), len(self.own)
        places = _each(batch, self.place, self.encoding)
        from_start = self.own - self.value(_across(observation, nodes), *places)
        # A start far from every node still sets out for the nearest.
        nearest = from_start.min(-1, keepdims=True)
        from_start = _within(from_start, jnp.maximum(self.limit, nearest))
        encoding = self.value.encode(goal)
        (observed,) = _each(batch, self.observation)
        to_goal = self.value(observed, _across(goal, nodes), _across(encoding, nodes))
        direct = self.value(observation, goal, encoding)
        # Nothing was observed at the goal: what rates it best counts as being there.
        own = jnp.maximum(to_goal.max(-1), direct)
        to_goal = _within(own[:, None] - to_goal, self.limit)
        direct = _within(own - direct, self.limit)
        until_last = from_start[..., None] + self.length
        first = until_last.argmin(1)
        whole = until_last.min(1) + to_goal
        last = whole.argmin(-1)
        first = jnp.take_along_axis(first, last[:, None], axis=1)[:, 0]
        return first, last, whole.min(-1) < direct


class Interpolation(eqx.Module):
    """Evenly spaced points on the line from psi(achieved goal) to psi(goal), the goal at its end.

    Source: arXiv 2403.04082, where representations between two states lie about their line. To
    decode a point by the nearest of places that were reached is our choice. place `[places, goal]`,
    psi `[places, representation]`.
    """

    encoder: Encoder
    place: Array
    psi: Array
    chunk: int = eqx.field(static=True)

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        start, end = self.encoder(achieved_goal)[:, None], self.encoder(goal)[:, None]
        share = jnp.linspace(0, 1, self.chunk + 1)[1:, None]
        points = start + share * (end - start)
        closeness = pairwise("squared_l2", points.reshape(-1, points.shape[-1]), self.psi)
        found = self.place[closeness.argmax(-1)].reshape(*points.shape[:2], -1)
        return found.at[:, -1].set(goal)


class Proposal(eqx.Module):
    """A learned policy of high level: the change of the achieved goal `interval`, 2 `interval`, ...
    steps ahead, each coordinate over its spread `[chunk, goal]`; it proposes the mean."""

    actor: Actor
    spread: Array

    def plan(self, observation: Array, achieved_goal: Array, goal: Array) -> Array:
        mean, _ = self.actor(observation, goal)
        return achieved_goal[:, None] + mean.reshape(-1, *self.spread.shape) * self.spread


def _across(rows: Array, count: int) -> Array:
    """`[batch, dim] -> [batch, count, dim]`."""
    return jnp.broadcast_to(rows[:, None], (len(rows), count, rows.shape[-1]))


def _each(batch: int, *arrays: Array) -> tuple[Array, ...]:
    """`[count, dim] -> [batch, count, dim]` of each array."""
    return tuple(jnp.broadcast_to(array, (batch, *array.shape)) for array in arrays)


def _within(cost: Array, limit: Array) -> Array:
    """Costs above the limit are infinite, those below zero are zero."""
    return jnp.where(cost <= limit, jnp.maximum(cost, 0.0), jnp.inf)
