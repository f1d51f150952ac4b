"""Waypoints: the shortest path over states that were reached, with the critic's distances.

The method follows search on the replay buffer (arXiv 1906.05253), with the contrastive distance of
arXiv 2406.17098. Energies f are log p(goal | state) - log p(goal). So the distance is d(i, j) =
f(j, j) - f(i, j) = -log [p(j | i) / p(j | j)] >= 0. It is log(1 / discount) for each step of a path
and adds up along the path. The critic knows near pairs best, so only pairs with d <= limit are
connected.

The search is written once for numpy and jax.numpy: `xp` is either. Here the energies come from an
ONNX graph, in training from the critic itself.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kilolayer_robot.card import Card
from kilolayer_robot.errors import UserError
from kilolayer_robot.policy import open_graph, read_listed
from kilolayer_robot.robot import Sensed

NODES, VALUE = "waypoints.npz", "value.onnx"
# Paths count as alike within this share of the longest trusted distance.
TOLERANCE = 0.1


class Graph(NamedTuple):
    """For each node: place `[nodes, goal]` and own `[nodes]`, f(j, j). length `[nodes, nodes]`: of
    the shortest paths, infinite where there is none; following `[nodes, nodes]`: the node after i
    on the path to j. limit: the longest distance that is trusted, `[]`."""

    place: Any
    own: Any
    length: Any
    following: Any
    limit: Any


def subgoals(xp: Any, graph: Graph, energies: tuple[Any, Any, Any], goal: Any, chunk: int) -> Any:
    """The next subgoals on the shortest path, `[batch, chunk, goal]`; the path ends at the goal.

    energies: from the present state to each node and from each node to the goal, `[batch, nodes]`,
    and from the present state to the goal, `[batch]`. goal `[batch, goal]`.
    """
    first, last, shorter = _best_path(xp, graph, *energies)
    node, nodes = xp.where(shorter, first, -1), []
    for _ in range(chunk):
        nodes.append(node)
        # A node of -1 stands for the goal.
        following = xp.where(node == last, -1, graph.following[node, last])
        node = xp.where(node < 0, -1, following)
    found = xp.stack(nodes, axis=1)[..., None]
    return xp.where(found < 0, goal[:, None], graph.place[found[..., 0]])


def _best_path(
    xp: Any, graph: Graph, from_state: Any, from_nodes: Any, direct: Any
) -> tuple[Any, Any, Any]:
    """First and last node of the best path, `[batch]` each, and whether it is shorter than the
    direct way to the goal."""
    to_nodes = graph.own - from_state
    # A state that is far from every node still connects to the nearest node.
    nearest = to_nodes.min(-1, keepdims=True)
    to_nodes = _within(xp, to_nodes, xp.maximum(graph.limit, nearest))
    # No observation at the goal exists, so the highest energy toward it stands for f(goal, goal).
    own = xp.maximum(from_nodes.max(-1), direct)
    to_goal = _within(xp, own[:, None] - from_nodes, graph.limit)
    straight = _within(xp, own - direct, graph.limit)
    to_last = to_nodes[..., None] + graph.length
    total = to_last.min(1) + to_goal
    last = total.argmin(-1)
    through = xp.take_along_axis(to_last, last[:, None, None], axis=2)[..., 0]
    # Among paths of nearly the same length, the longest first hop. The nearest node may lie behind:
    # a robot that plans often would return to it with every plan.
    alike = through <= through.min(-1, keepdims=True) + TOLERANCE * graph.limit
    first = xp.where(alike, to_nodes, -1.0).argmax(-1)
    return first, last, total.min(-1) < straight


def _within(xp: Any, cost: Any, limit: Any) -> Any:
    """Costs above the limit become infinite, costs below zero become zero."""
    return xp.where(cost <= limit, xp.maximum(cost, 0.0), xp.inf)


@dataclass(frozen=True, eq=False)
class RecordedWaypoints:
    """A planner for the loop: it maps a measurement to subgoals `[chunk, goal]`.

    value: `(observation [batch, observation], goal [batch, goal]) -> energy [batch]`. observation:
    of each node, `[nodes, observation]`.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    observation: np.ndarray
    graph: Graph
    chunk: int

    def __call__(self, sensed: Sensed) -> np.ndarray:
        place, goal = self.graph.place, np.asarray(sensed.goal, np.float32)
        from_state, nodes = np.asarray(sensed.observation, np.float32)[None], len(place)
        # One call for all pairs: present state to nodes, nodes to goal, present state to goal.
        observed = np.concatenate([np.repeat(from_state, nodes, 0), self.observation, from_state])
        toward = np.concatenate([place, np.repeat(goal[None], nodes + 1, 0)])
        found = self.value(observed, toward)
        energies = found[None, :nodes], found[None, nodes:-1], found[-1:]
        return subgoals(np, self.graph, energies, goal[None], self.chunk)[0]


def open_waypoints(folder: Path, card: Card, chunk: int) -> RecordedWaypoints:
    """The planner that was recorded in a policy folder; raises UserError if there is none."""
    if NODES not in card.files:
        raise UserError(
            f"{folder} contains no waypoints: export with "
            "`kilolayer export RUN --to FOLDER --planner waypoints`, or use --planner direct."
        )
    path = folder / NODES
    content = read_listed(path, card)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            observation = arrays["observation"]
            graph = Graph(*(arrays[name] for name in Graph._fields))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is missing or damaged: {error}.") from error
    session, energy = open_graph(folder / VALUE, card, "energy")
    if energy.shape != (1,):
        raise UserError(f"{folder / VALUE} gives {energy.shape} in place of (1,) energies.")

    def value(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return session.run(["energy"], {"observation": observation, "goal": goal})[0]

    return RecordedWaypoints(value, observation, graph, chunk)
