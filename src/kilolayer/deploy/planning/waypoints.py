"""The graph of a waypoint planner: nodes are reached states, edges are short critic distances."""

from bisect import bisect_left

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from kilolayer.deploy.planning.planners import Value, Waypoints
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import UserError
from kilolayer_robot.waypoints import Graph

# An edge costs at most `limit`. The limit is the smallest that connects this share of the nodes,
# multiplied by the slack so that there is more than one path.
CONNECTED, SLACK = 0.95, 1.5
# The sparse graph would treat an edge of cost 0 as no edge.
SMALLEST_COST = 1e-6


def build_waypoints(
    value: Value,
    observation: np.ndarray,
    place: np.ndarray,
    chunk: int,
    display: ProgressDisplay,
    slack: float = SLACK,
) -> Waypoints:
    """A planner over nodes with `observation [nodes, observation]` and `place [nodes, goal]`.

    Only the largest set of nodes that all reach each other is kept. Raises UserError if fewer than
    two nodes are left.
    """
    encoding = jax.jit(lambda value, place: value.encode(place))(value, place)
    energy = _energies(value, observation, place, encoding, display)
    own = np.diagonal(energy)
    cost = np.maximum(own - energy, SMALLEST_COST)
    limit = slack * connecting_limit(cost)
    connected = _strongly_connected(cost, limit)
    if connected.sum() < 2:
        raise UserError(
            "the recorded steps contain no two places that can be reached from each other, so the "
            "waypoint graph is empty: train longer, or plan with --planner proposal."
        )
    cost = cost[np.ix_(connected, connected)]
    # Search backward from each node: the predecessor there is the next node on the path.
    length, following = dijkstra(_edges(cost, limit).T, return_predecessors=True)
    graph = Graph(
        place=jnp.asarray(place[connected]),
        own=jnp.asarray(own[connected]),
        length=jnp.asarray(length.T, jnp.float32),
        following=jnp.asarray(np.maximum(following.T, 0), jnp.int32),
        limit=jnp.float32(limit),
    )
    nodes = jnp.asarray(observation[connected])
    return Waypoints(value, nodes, encoding[connected], graph, chunk)


def connecting_limit(cost: np.ndarray) -> float:
    """The smallest limit on `cost [nodes, nodes]` at which a share CONNECTED of the nodes reach
    each other, by bisection over the existing costs."""
    limits = np.unique(cost[np.isfinite(cost)])

    def connects(limit: float) -> bool:
        return bool(_strongly_connected(cost, limit).mean() >= CONNECTED)

    return float(limits[bisect_left(limits, True, hi=len(limits) - 1, key=connects)])


def _strongly_connected(cost: np.ndarray, limit: float) -> np.ndarray:
    """Mask of the nodes in the largest set that all reach each other, `[nodes]`."""
    _, labels = connected_components(_edges(cost, limit), connection="strong")
    return labels == np.bincount(labels).argmax()


def _edges(cost: np.ndarray, limit: float) -> csr_array:
    return csr_array(np.where(cost <= limit, cost, 0.0))


def _energies(
    value: Value,
    observation: np.ndarray,
    place: np.ndarray,
    encoding: jax.Array,
    display: ProgressDisplay,
) -> np.ndarray:
    """Energies `[nodes, nodes]` of each node's observation (row) toward each node's place."""
    display.phase("graph")

    @jax.jit
    def rate(value: Value, row: jax.Array, place: jax.Array, encoding: jax.Array) -> jax.Array:
        return value(jnp.broadcast_to(row, (len(place), len(row))), place, encoding)

    rows = []
    for row in observation:
        rows.append(np.asarray(rate(value, row, place, encoding)))
        display.advance(len(rows), len(observation))
    return np.stack(rows)
