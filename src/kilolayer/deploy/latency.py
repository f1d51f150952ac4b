"""Latency of a policy's action on this machine, beside the policy's score."""

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.deploy.score import Scorer, visited
from kilolayer.deploy.smaller.early_exit import EarlyExit, early_exit_operations
from kilolayer.errors import UserError, bad_field, require_at_least, require_choice
from kilolayer.runtime.devices import require_memory
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer_robot.planning import Pursuit

ROUNDS = 10
RUNTIMES = get_args(Runtime)
# (observation [batch, o], goal [batch, g]) -> action or plan [batch, ...], numpy in and out
Call = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class Timing:
    """Duration of a call in seconds: median and 99th percentile."""

    median: float
    p99: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Timing":
        return Timing(statistics.median(seconds), float(np.percentile(seconds, 99)))


@dataclass(frozen=True)
class Latency:
    """One policy on one runtime.

    policy: its path. method: how it was made, such as `train`, `prune` or `distil`. runtime: the
    runtime, or the planner over the policy. blocks_used: mean over the observations. operations:
    floating-point operations per action at batch 1. batch_operations: the same per action of a
    batch. score: mean control steps at the goal, or None.
    """

    policy: str
    method: str
    runtime: str
    depth: int
    width: int
    blocks: int
    blocks_used: float
    operations: float
    batch_operations: float
    single: Timing
    batched: Timing
    score: float | None

    @property
    def name(self) -> str:
        return f"{self.policy} on {self.runtime}"


@dataclass(frozen=True)
class Latencies:
    """batch: rows of a batched call. episodes: played for each score; 0 without scores."""

    task: str
    machine: str
    batch: int
    repeats: int
    episodes: int
    rows: tuple[Latency, ...]

    @property
    def front(self) -> tuple[bool, ...]:
        """For each row, whether it is on the Pareto front of single-call latency and score."""
        return pareto_front([(row.single.median, row.score) for row in self.rows])

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        for row, best in zip(values["rows"], self.front, strict=True):
            row["pareto_front"] = best
        return json.dumps(values, indent=2) + "\n"


def pareto_front(points: Sequence[tuple[float, float | None]]) -> tuple[bool, ...]:
    """Which points `(seconds, score)` no other point dominates; a point without score never is."""

    def dominated(seconds: float, score: float) -> bool:
        return any(
            s <= seconds and v >= score and (s, v) != (seconds, score)
            for s, v in points
            if v is not None
        )

    return tuple(score is not None and not dominated(seconds, score) for seconds, score in points)


@dataclass(frozen=True)
class PlannerSettings:
    """Planners to measure over each policy, and the run that they plan with."""

    run: Run
    planners: Sequence[PlannerName]
    pursuit: Pursuit
    nodes: int = 64


@dataclass(frozen=True, eq=False)
class Variant:
    """A policy on a runtime, with early exit, or under a planner.

    inputs: observations and goals that the variant visits. blocks: number of blocks used for each
    input. operations: floating-point operations of a control step, at batch 1 and per row of a
    batch. plan: the planner's call, if any, made every `replan` control steps. score: the score of
    policy and planner together.
    """

    policy: DeployedPolicy
    runtime: str
    act: Call
    inputs: tuple[np.ndarray, np.ndarray]
    blocks: np.ndarray
    operations: tuple[float, float]
    score: Callable[[Scorer], float]
    plan: Call | None = None
    replan: int = 1


def measure_latency(
    paths: Sequence[str | Path],
    batch: int,
    repeats: int,
    episodes: int,
    runtimes: Sequence[str],
    early_exit: EarlyExit,
    planned: PlannerSettings | None,
    display: ProgressDisplay,
) -> Latencies:
    """Time policies on observations of their task, in alternation, and score them.

    repeats: calls at batch 1; batched calls are a tenth as many. planned: planners that are also
    measured over each policy. Raises UserError for a path without a policy, for policies of
    different tasks, and for the runtime `onnx` without onnxruntime.
    """
    require_at_least(1, batch=batch, repeats=repeats)
    if episodes < 0:
        raise bad_field("episodes", episodes, "it must be 0, for no score, or more", 0)
    for runtime in runtimes:
        require_choice("runtime", runtime, RUNTIMES)
    if not runtimes and planned is None:
        raise UserError("there is nothing to measure: give a runtime or a planner.")
    if not paths:
        raise UserError("name at least one run or policy directory to measure.")
    policies = [open_policy(path) for path in paths]
    first = policies[0]
    task, width = first.task, max(each.spec.torso.width for each in policies)
    for policy in policies:
        if policy.task.name != task.name:
            raise UserError(
                f"{policy.path} acts in {policy.task.name} and {first.path} in {task.name}: "
                "measure policies of one task at a time."
            )
    require_memory("batch", batch, 4 * (len(task.observation) + task.goal.dim + width))
    require_memory("repeats", repeats, 8)  # bytes of a duration
    scorer = Scorer(task, first.config, episodes)
    variants: list[Variant] = []
    for index, policy in enumerate(policies):
        display.phase("policies")
        variants += _variants(policy, runtimes, early_exit, planned, batch, display)
        display.advance(index + 1, len(policies))
    singles = _timings(variants, False, repeats, display)
    batches = _timings(variants, True, max(ROUNDS, repeats // 10), display)
    scores = _scores(variants, scorer, display)
    rows = tuple(map(_latency, variants, singles, batches, scores))
    device = jax.devices()[0].device_kind
    machine = f"{os.cpu_count()} cores, {platform.machine()}; JAX on {device}."
    return Latencies(task.name, machine, batch, repeats, episodes, rows)


def _variants(
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

    def score(scorer: Scorer) -> float:
        return scorer.time_at_goal(agent, actor)

    inputs = visited(policy.task, policy.config, agent, actor, rows)
    blocks = np.full(rows, policy.spec.torso.num_blocks)
    each = float(act_operations(policy))
    in_jax = Variant(policy, "jax", _jitted(agent, actor), inputs, blocks, (each, each), score)
    variants = []
    if "jax" in runtimes:
        variants.append(in_jax)
    if "onnx" in runtimes:
        session = open_session(policy_graph(actor, sizes_of(policy)).SerializeToString())
        # The policy acts the same on ONNX Runtime as in JAX, so it shares the JAX score.
        variants.append(dataclasses.replace(in_jax, runtime="onnx", act=session))
    if "early-exit" in runtimes:
        variants.append(_with_early_exit(policy, early_exit, rows))
    if planned is not None:
        run, pursuit = planned.run, planned.pursuit
        for name in planned.planners:
            planner = build_planner(name, run, policy, pursuit, display, planned.nodes)
            variants.append(_under_planner(in_jax, name, planner, pursuit))
    return variants


def _with_early_exit(policy: DeployedPolicy, early_exit: EarlyExit, rows: int) -> Variant:
    actor = policy.agent_state
    inputs = visited(policy.task, policy.config, early_exit, actor, rows)
    blocks = np.asarray(jax.jit(early_exit.run)(actor, *inputs).blocks)
    operations = early_exit_operations(actor, blocks)

    def score(scorer: Scorer) -> float:
        return scorer.time_at_goal(early_exit, actor)

    act = _jitted(early_exit, actor)
    return Variant(policy, "early-exit", act, inputs, blocks, operations, score)


def _under_planner(alone: Variant, name: str, planner: Planner, pursuit: Pursuit) -> Variant:
    policy = alone.policy
    compiled = jax.jit(lambda planner, *rows: planner.plan(*rows))

    def plan(observation: np.ndarray, goal: np.ndarray) -> np.ndarray:
        # The achieved goal does not change the cost of a plan, so any goal can stand in for it.
        return np.asarray(compiled(planner, observation, goal[::-1], goal))

    def score(scorer: Scorer) -> float:
        return score_planner(scorer, policy, name, planner, pursuit).scores["time_at_goal"]

    each = alone.operations[0] + plan_operations(planner, policy) / pursuit.replan
    return dataclasses.replace(
        alone,
        runtime=name,
        operations=(each, each),
        score=score,
        plan=plan,
        replan=pursuit.replan,
    )


def _jitted(agent: Any, actor: Any) -> Call:
    key = jax.random.key(0)  # not used by a deterministic action

    @jax.jit
    def act(actor: Any, observation: jax.Array, goal: jax.Array) -> jax.Array:
        return agent.act(actor, observation, goal, key, True)

    return lambda observation, goal: np.asarray(act(actor, observation, goal))


def _latency(variant: Variant, single: Timing, batched: Timing, score: float | None) -> Latency:
    torso = variant.policy.spec.torso
    return Latency(
        policy=str(variant.policy.path),
        method=variant.policy.method,
        runtime=variant.runtime,
        depth=torso.depth,
        width=torso.width,
        blocks=torso.num_blocks,
        blocks_used=float(variant.blocks.mean()),
        operations=variant.operations[0],
        batch_operations=variant.operations[1],
        single=single,
        batched=batched,
        score=score,
    )


def _timings(
    variants: Sequence[Variant],
    batched: bool,
    repeats: int,
    display: ProgressDisplay,
) -> list[Timing]:
    """The timing of each variant, with one row or all its rows in a call.

    With a planner, the median counts an action and its share of a plan; the 99th percentile counts
    an action and a whole plan.
    """

    def timed(variant: Variant, call: Call) -> Callable[[int], float]:
        def seconds(index: int) -> float:
            row = index % len(variant.blocks)
            rows = slice(None) if batched else slice(row, row + 1)
            observation, goal = (each[rows] for each in variant.inputs)
            start = time.perf_counter()
            call(observation, goal)
            return time.perf_counter() - start

        return seconds

    calls = [timed(variant, variant.act) for variant in variants]
    calls += [timed(variant, variant.plan) for variant in variants if variant.plan is not None]
    found = [Timing.of(seconds) for seconds in _alternate(calls, repeats, display)]
    plans = iter(found[len(variants) :])

    def with_plan(variant: Variant, act: Timing) -> Timing:
        plan = Timing(0.0, 0.0) if variant.plan is None else next(plans)
        return Timing(act.median + plan.median / variant.replan, act.p99 + plan.p99)

    return list(map(with_plan, variants, found))


def _alternate(
    calls: Sequence[Callable[[int], float]], repeats: int, display: ProgressDisplay
) -> list[list[float]]:
    """Seconds of each call.

    The calls take turns, a tenth of the repeats at a time, so that other load on the machine
    affects all of them. The first three calls of a turn warm up the caches and do not count.
    """
    display.phase("timing")
    seconds: list[list[float]] = [[] for _ in calls]
    turn = -(-repeats // ROUNDS)
    for done in range(ROUNDS):
        for call, found in zip(calls, seconds, strict=True):
            for index in range(3):
                call(index)
            found.extend(call(done * turn + index) for index in range(turn))
        display.advance(done + 1, ROUNDS)
    return seconds


def _scores(
    variants: Sequence[Variant], scorer: Scorer, display: ProgressDisplay
) -> list[float | None]:
    if scorer.episodes == 0:
        return [None] * len(variants)
    display.phase("scores")
    # A policy on two runtimes has one score function, so it is scored once.
    found: dict[Callable[[Scorer], float], float] = {}
    for index, variant in enumerate(variants):
        if variant.score not in found:
            found[variant.score] = variant.score(scorer)
        display.advance(index + 1, len(variants))
    return [found[variant.score] for variant in variants]
