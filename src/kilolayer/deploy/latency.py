"""How long a policy takes to act on this machine, beside what it is worth."""

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kilolayer.deploy.early_exit import EarlyExit, Operations
from kilolayer.deploy.export import sizes_of
from kilolayer.deploy.onnx_graph import policy_graph
from kilolayer.deploy.onnx_session import open_session
from kilolayer.deploy.policy import DeployedPolicy, open_policy
from kilolayer.deploy.score import Scorer
from kilolayer.deploy.visited import visited
from kilolayer.runtime.progress import ProgressDisplay, Silent
from kilolayer.types import UserError, bad_field

RUNTIMES = ("jax", "onnx", "early-exit")
ROUNDS = 10
# (observation [batch, o], goal [batch, g]) -> action [batch, a], numpy in and out
Call = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: the median and the 99th percentile."""

    median: float
    p99: float

    @staticmethod
    def of(seconds: Sequence[float]) -> "Timing":
        return Timing(statistics.median(seconds), float(np.percentile(seconds, 99)))


@dataclass(frozen=True)
class Latency:
    """One policy on one runtime.

    policy: its path. method: `train`, `prune`, `distil` or whatever made it. blocks_used: the mean
    over the observations. operations: floating-point operations per action at batch 1;
    batch_operations: per action of a batch. score: mean control steps at the goal, or None.
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
    """batch: rows of a batched call. episodes: that the scores are of; 0 if there are none."""

    task: str
    machine: str
    batch: int
    repeats: int
    episodes: int
    rows: tuple[Latency, ...]

    @property
    def front(self) -> tuple[bool, ...]:
        """For each row, whether none is at once as fast and as good, and better in one."""
        return pareto_front([(row.single.median, row.score) for row in self.rows])

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        for row, best in zip(values["rows"], self.front, strict=True):
            row["pareto_front"] = best
        return json.dumps(values, indent=2) + "\n"


def pareto_front(points: Sequence[tuple[float, float | None]]) -> tuple[bool, ...]:
    """Which of `(seconds, score)` no other beats; a point without score is never in front."""

    def beaten(seconds: float, score: float) -> bool:
        return any(
            s <= seconds and v >= score and (s, v) != (seconds, score)
            for s, v in points
            if v is not None
        )

    return tuple(score is not None and not beaten(seconds, score) for seconds, score in points)


def measure_latency(
    paths: Sequence[str | Path],
    batch: int = 256,
    repeats: int = 1000,
    episodes: int = 64,
    runtimes: Sequence[str] = RUNTIMES,
    early_exit: EarlyExit | None = None,
    display: ProgressDisplay | None = None,
) -> Latencies:
    """Time policies on observations of their task, all in turn, and score them.

    repeats: calls at batch 1; a batch is called a tenth as often. Raises UserError for something
    that is no policy, for policies of different tasks, and without onnxruntime if it is asked for.
    """
    for name, value in (("batch", batch), ("repeats", repeats)):
        if value < 1:
            raise bad_field(name, value, "it must be at least 1", 1)
    if episodes < 0:
        raise bad_field("episodes", episodes, "it must be 0, for no score, or more", 0)
    if not paths:
        raise UserError("name at least one run or policy directory to measure.")
    display, exiting = display or Silent(), early_exit or EarlyExit()
    policies = [open_policy(path) for path in paths]
    task = policies[0].task
    for policy in policies:
        if policy.task.name != task.name:
            raise UserError(
                f"{policy.path} acts in {policy.task.name} and {policies[0].path} in {task.name}: "
                "measure policies of one task at a time."
            )
    subjects = []
    for index, policy in enumerate(policies):
        display.phase("policies")
        subjects += [
            _subject(policy, name, exiting, batch) for name in RUNTIMES if name in runtimes
        ]
        display.advance(index + 1, len(policies))
    singles = _alternate([partial(_rows, subject, 1) for subject in subjects], repeats, display)
    many = max(ROUNDS, repeats // 10)
    batches = _alternate([partial(_rows, subject, batch) for subject in subjects], many, display)
    scores = _scores(subjects, episodes, display)
    rows = tuple(
        subject.latency(Timing.of(single), Timing.of(batched), score)
        for subject, single, batched, score in zip(subjects, singles, batches, scores, strict=True)
    )
    return Latencies(task.name, _machine(), batch, repeats, episodes, rows)


def _machine() -> str:
    device = jax.devices()[0]
    return f"{os.cpu_count()} cores, {platform.machine()}; JAX on {device.device_kind}."


@dataclass(frozen=True)
class _Subject:
    """Something to time. agent: plays as it does; blocks: that it used for each observation."""

    policy: DeployedPolicy
    runtime: str
    agent: Any
    call: Call
    inputs: tuple[np.ndarray, np.ndarray]
    blocks: np.ndarray

    def latency(self, single: Timing, batched: Timing, score: float | None) -> Latency:
        policy, operations = self.policy, Operations.of(self.policy.agent_state)
        torso, exits = policy.spec.torso, self.runtime == "early-exit"
        whole = operations.whole(torso.num_blocks)
        return Latency(
            policy=str(policy.path),
            method=policy.method,
            runtime=self.runtime,
            depth=torso.depth,
            width=torso.width,
            blocks=torso.num_blocks,
            blocks_used=float(self.blocks.mean()),
            operations=operations.exiting(self.blocks) if exits else whole,
            batch_operations=operations.exiting_together(self.blocks) if exits else whole,
            single=single,
            batched=batched,
            score=score,
        )


def _subject(policy: DeployedPolicy, runtime: str, exiting: EarlyExit, rows: int) -> _Subject:
    actor, agent = policy.agent_state, policy.agent
    blocks = np.full(rows, policy.spec.torso.num_blocks)
    if runtime == "early-exit":
        inputs = visited(policy.task, policy.config, exiting, actor, rows)
        blocks = np.asarray(jax.jit(exiting.run)(actor, *inputs).blocks)
        return _Subject(policy, runtime, exiting, _jitted(exiting, actor), inputs, blocks)
    inputs = visited(policy.task, policy.config, agent, actor, rows)
    if runtime == "jax":
        return _Subject(policy, runtime, agent, _jitted(agent, actor), inputs, blocks)
    graph = policy_graph(actor, sizes_of(policy))
    session = open_session(graph.SerializeToString())
    return _Subject(policy, runtime, agent, session, inputs, blocks)


def _jitted(agent: Any, actor: Any) -> Call:
    key = jax.random.key(0)  # not used by a deterministic action

    @jax.jit
    def act(observation: jax.Array, goal: jax.Array) -> jax.Array:
        return agent.act(actor, observation, goal, key, True)

    return lambda observation, goal: np.asarray(act(observation, goal))


def _rows(subject: _Subject, count: int, index: int) -> float:
    """Seconds of call number `index`, at batch 1 of an observation of its own."""
    first = index % len(subject.blocks) if count == 1 else 0
    observation, goal = (each[first : first + count] for each in subject.inputs)
    start = time.perf_counter()
    subject.call(observation, goal)
    return time.perf_counter() - start


def _alternate(
    calls: Sequence[Callable[[int], float]], repeats: int, display: ProgressDisplay
) -> list[list[float]]:
    """Seconds of each call, a tenth of the repeats of each in turn, so that what else the machine
    does meets all; the first calls of a turn find caches that others filled and do not count."""
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
    subjects: Sequence[_Subject], episodes: int, display: ProgressDisplay
) -> list[float | None]:
    """Of each subject; what a policy does on ONNX Runtime is what it does in JAX."""
    if episodes == 0:
        return [None] * len(subjects)
    display.phase("scores")
    first = subjects[0].policy
    scorer = Scorer(first.task, first.config, episodes)
    found: dict[tuple, float] = {}
    for index, subject in enumerate(subjects):
        asked = (subject.policy.path, subject.agent)
        if asked not in found:
            found[asked] = scorer.time_at_goal(subject.agent, subject.policy.agent_state)
        display.advance(index + 1, len(subjects))
    return [found[subject.policy.path, subject.agent] for subject in subjects]
