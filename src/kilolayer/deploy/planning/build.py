"""Builds a run's planner from the planner's name."""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.crl import CRL, Critic
from kilolayer.agents.registry import task_spec
from kilolayer.analysis.load import Run
from kilolayer.deploy.names import PlannerName
from kilolayer.deploy.planning.planners import CriticValue, Direct, Interpolation, Planner
from kilolayer.deploy.planning.proposal import proposal_of
from kilolayer.deploy.planning.recorded import farthest_points, recorded_steps
from kilolayer.deploy.planning.waypoints import build_waypoints
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.errors import require_choice
from kilolayer.losses.energies import Energy
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import UserError, bad_field
from kilolayer_robot.planning import Pursuit

# Recorded steps to choose the nodes from, and recorded steps to decode points to.
CANDIDATES, DECODED = 8192, 2048


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
