"""Builds a run's planner from its name, and the graph of the waypoint planner.

The nodes of the graph are reached states, its edges are short critic distances.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from kilolayer.agents.crl import CRL, Critic
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run
from kilolayer.deploy.names import PlannerName
from kilolayer.deploy.planning.planners import (
    CriticValue,
    Direct,
    Interpolation,
    Planner,
    Waypoints,
)
from kilolayer.deploy.planning.proposal import proposal_of
from kilolayer.deploy.planning.recorded import farthest_points, recorded_steps
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.errors import UserError, bad_field, require_choice
from kilolayer.losses.energies import Energy
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer_robot.planning import Pursuit
from kilolayer_robot.waypoints import Graph

# Recorded steps to choose the nodes from, and recorded steps to decode points to.
CANDIDATES, DECODED = 8192, 2048
# An edge costs at most `limit`. The limit is the smallest that connects this share of the nodes,
# multiplied by the slack so that there is more than one path.
CONNECTED, SLACK = 0.95, 1.5
# The sparse graph would treat an edge of cost 0 as no edge.
SMALLEST_COST = 1e-6


def build_planner(
    name: PlannerName,
    run: Run | DeployedPolicy,
    controller: DeployedPolicy,
    pursuit: Pursuit,
    display: ProgressDisplay,
    nodes: int = 64,
    seed: int = 0,
) -> Planner:
    """Build a run's planner for this controller. A stand-alone policy has only `direct`.

    nodes: number of graph nodes that waypoints are chosen from. Raises UserError for an unknown
    name, if the controller takes other observations, or if the planner needs a contrastive critic
    and the run has none.
    """
    require_choice("planner", name, get_args(PlannerName))
    if nodes < 2:
        raise bad_field("nodes", nodes, "a path has at least two ends", 2)
    _require_fit(run, controller)
    if name == "direct":
        return Direct(pursuit.chunk)
    if not isinstance(run, Run):
        allowed = f"{run.path} is a policy on its own and has no critic to plan with; give a run"
        raise bad_field("planner", name, allowed, "direct")
    if name == "proposal":
        return proposal_of(run, pursuit.chunk, pursuit.replan, display)
    critic, energy = _critic(run)
    steps = recorded_steps(run, display, seed)
    if name == "interpolation":
        _, places = steps.draw(DECODED, seed)
        place = jnp.asarray(places)
        psi = jax.jit(lambda critic, place: critic.goal(place))(critic, place)
        return Interpolation(critic.goal, place, psi, pursuit.chunk)
    observation, place = steps.draw(CANDIDATES, seed)
    chosen = farthest_points(place, nodes)
    value = CriticValue(controller.agent_state, critic, energy)
    return build_waypoints(value, observation[chosen], place[chosen], pursuit.chunk, display)


def for_single_env(planner: Planner) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The compiled planner of one environment: `([observation], [goal], [goal]) -> [chunk,
    goal]`."""
    plan = jax.jit(lambda planner, *rows: planner.plan(*rows))

    def plan_for(observation: np.ndarray, achieved_goal: np.ndarray, goal: np.ndarray):
        rows = (observation, achieved_goal, goal)
        return np.asarray(plan(planner, *(row[None] for row in rows)))[0]

    return plan_for


def _require_fit(run: Run | DeployedPolicy, controller: DeployedPolicy) -> None:
    """Raises UserError unless the controller's input and output sizes are those of the task."""
    expected, found = task_spec(run.task), controller.spec.task
    if expected != found:
        raise UserError(
            f"the controller {controller.path} takes observation, action and goal of "
            f"{found.observation_dim}, {found.action_dim} and {found.goal_dim} numbers, and the "
            f"task {run.task.name} has {expected.observation_dim}, {expected.action_dim} and "
            f"{expected.goal_dim}: give a policy of the same task."
        )


def _critic(run: Run) -> tuple[Critic, Energy]:
    """The contrastive critic of a run and its energy function."""
    agent = run.config.agent
    if not isinstance(agent, CRL):
        raise UserError(
            f"the agent {run.config.agent_name} of {run.path} has no contrastive critic to measure "
            "distances by: plan with --planner proposal, or with a run of crl."
        )
    return run.agent_state.parameters.critic, agent.energy


def build_waypoints(
    value: CriticValue,
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
    value: CriticValue,
    observation: np.ndarray,
    place: np.ndarray,
    encoding: jax.Array,
    display: ProgressDisplay,
) -> np.ndarray:
    """Energies `[nodes, nodes]` of each node's observation (row) toward each node's place."""
    display.phase("graph")

    @jax.jit
    def rate(value: CriticValue, row: jax.Array, *nodes: jax.Array) -> jax.Array:
        return value(jnp.broadcast_to(row, (len(place), len(row))), *nodes)

    rows = []
    for row in observation:
        rows.append(np.asarray(rate(value, row, place, encoding)))
        display.advance(len(rows), len(observation))
    return np.stack(rows)
