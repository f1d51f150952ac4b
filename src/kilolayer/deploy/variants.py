"""Variants of a policy that can be timed: on a runtime, with early exit, or under a planner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.export.check import sizes_of
from kilolayer.deploy.export.onnx_graph import policy_graph
from kilolayer.deploy.export.onnx_session import open_session
from kilolayer.deploy.names import PlannerName, Runtime
from kilolayer.deploy.planning.build import build_planner
from kilolayer.deploy.planning.hierarchy import act_operations, plan_operations, score_planner
from kilolayer.deploy.planning.planners import Planner
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.deploy.score import Scorer
from kilolayer.deploy.smaller.early_exit import EarlyExit, Operations
from kilolayer.deploy.visited import visited
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import UserError
from kilolayer_robot.planning import Pursuit

RUNTIMES = get_args(Runtime)
# (observation [batch, o], goal [batch, g]) -> action or plan [batch, ...], numpy in and out
Call = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class PlannerSettings:
    """Planners to measure over each policy, and the run that they plan with."""

    run: Run
    planners: Sequence[PlannerName]
    pursuit: Pursuit
    nodes: int = 64


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant of a policy.

    inputs: observations and goals that the variant visits. blocks: number of blocks used for each
    input. plan: the planner's call, if any, made every `replan` control steps; it costs
    `plan_operations`. score: the score of policy and planner together.
    """

    policy: DeployedPolicy
    runtime: str
    act: Call
    inputs: tuple[np.ndarray, np.ndarray]
    blocks: np.ndarray
    score: Callable[[Scorer], float]
    plan: Call | None = None
    replan: int = 1
    plan_operations: int = 0

    @cached_property
    def operations(self) -> tuple[float, float]:
        """Floating-point operations of a control step, at batch 1 and per row of a batch."""
        if self.runtime == "early-exit":
            counts = Operations.of(self.policy.agent_state)
            return counts.early_exit(self.blocks), counts.early_exit_batch(self.blocks)
        total = act_operations(self.policy) + self.plan_operations / self.replan
        return total, total


def policy_variants(
    policy: DeployedPolicy,
    runtimes: Sequence[str],
    early_exit: EarlyExit,
    planned: PlannerSettings | None,
    rows: int,
    display: ProgressDisplay,
) -> list[Variant]:
    """The policy on each runtime, then under each planner, with `rows` inputs each.

    Raises UserError for the runtime `onnx` without onnxruntime, and if a planner does not fit.
    """
    actor, agent = policy.agent_state, policy.agent
    inputs = visited(policy.task, policy.config, agent, actor, rows)
    blocks = np.full(rows, policy.spec.torso.num_blocks)

    def alone(scorer: Scorer) -> float:
        return scorer.time_at_goal(agent, actor)

    act = _jitted(agent, actor)
    variants = []
    if "jax" in runtimes:
        variants.append(Variant(policy, "jax", act, inputs, blocks, alone))
    if "onnx" in runtimes:
        session = open_session(policy_graph(actor, sizes_of(policy)).SerializeToString())
        # The policy acts the same on ONNX Runtime as in JAX, so it shares the JAX score.
        variants.append(Variant(policy, "onnx", session, inputs, blocks, alone))
    if "early-exit" in runtimes:
        variants.append(_early_exit_variant(policy, early_exit, rows))
    if planned is not None:
        run, pursuit = planned.run, planned.pursuit
        for name in planned.planners:
            planner = build_planner(name, run, policy, pursuit, display, planned.nodes)
            variants.append(_planner_variant(name, planner, pursuit, policy, act, inputs))
    return variants


def _early_exit_variant(policy: DeployedPolicy, early_exit: EarlyExit, rows: int) -> Variant:
    actor = policy.agent_state
    inputs = visited(policy.task, policy.config, early_exit, actor, rows)
    blocks = np.asarray(jax.jit(early_exit.run)(actor, *inputs).blocks)

    def score(scorer: Scorer) -> float:
        return scorer.time_at_goal(early_exit, actor)

    return Variant(policy, "early-exit", _jitted(early_exit, actor), inputs, blocks, score)


def _planner_variant(
    name: PlannerName,
    planner: Planner,
    pursuit: Pursuit,
    policy: DeployedPolicy,
    act: Call,
    inputs: tuple[np.ndarray, np.ndarray],
) -> Variant:
    compiled = jax.jit(lambda planner, *rows: planner.plan(*rows))

    def plan(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        # The achieved goal does not change the cost of a plan, so any goal can stand in for it.
        return np.asarray(compiled(planner, observation, goal[::-1], goal))

    def score(scorer: Scorer) -> float:
        return score_planner(scorer, policy, name, planner, pursuit).scores["time_at_goal"]

    blocks = np.full(len(inputs[0]), policy.spec.torso.num_blocks)
    operations = plan_operations(planner, policy)
    return Variant(policy, name, act, inputs, blocks, score, plan, pursuit.replan, operations)


def _jitted(agent: Any, actor: Any) -> Call:
    key = jax.random.key(0)  # not used by a deterministic action

    @jax.jit
    def act(actor: Any, observation: jax.Array, goal: jax.Array) -> jax.Array:
        return agent.act(actor, observation, goal, key, True)

    return lambda observation, goal: np.asarray(act(actor, observation, goal))


def require_one_task(policies: Sequence[DeployedPolicy]) -> None:
    """Raises UserError unless all policies have the same task."""
    first = policies[0]
    for policy in policies:
        if policy.task.name != first.task.name:
            raise UserError(
                f"{policy.path} acts in {policy.task.name} and {first.path} in {first.task.name}: "
                "measure policies of one task at a time."
            )
