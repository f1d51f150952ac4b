"""Pruning of a trained policy: scores by the number of blocks kept, and the choice to deploy."""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from kilolayer.analysis.load import Policy
from kilolayer.deploy.names import Measure, Order
from kilolayer.deploy.policy import ActorAgent, ActorSpec, DeployedPolicy, open_policy
from kilolayer.deploy.score import NEW_EPISODES, PairedScores, Scorer, compare_paired
from kilolayer.deploy.smaller.distil import train_student
from kilolayer.deploy.smaller.influence import (
    Visited,
    block_influence,
    greedy,
    one_shot,
    visited_states,
)
from kilolayer.deploy.smaller.recipe import Recipe
from kilolayer.errors import UserError, bad_field, require_choice
from kilolayer.losses.distillation import gaussian_divergence
from kilolayer.networks.actor import Actor
from kilolayer.networks.surgery import select_blocks
from kilolayer.runtime.files import require_unused, write_atomically
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.settings import MAX_INT32, Positive, PositiveShare, Settings

FILE = "prune.json"
STATES = 1024
# At most this many points on the curve, since each plays whole episodes.
MAX_POINTS = 17
LATENCY_CALLS = 200
HEALED_LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class SelectionRule(Settings):
    """How to choose the point to deploy.

    keep_score: take the fewest blocks that keep this share of the unpruned policy's score.
    target_latency: take the best score within this latency instead (ms, batch 1).
    """

    keep_score: PositiveShare = 0.95
    target_latency: Positive | None = None


@dataclass(frozen=True)
class Point:
    """A policy on the curve.

    kept: its blocks, numbered as in the unpruned policy. healed: whether it was distilled after
    pruning. divergence: KL from the unpruned policy, in nats. latency: median of one action, ms.
    """

    order: Order
    kept: list[int]
    healed: bool
    divergence: float
    latency: float
    scores: dict[str, float]

    @property
    def blocks(self) -> int:
        return len(self.kept)

    @property
    def score(self) -> float:
        return self.scores["time_at_goal"]


@dataclass(frozen=True)
class Curve:
    """All measurements of a pruning. points[0] is the unpruned policy.

    chosen: index of the chosen point. states: number of states that the influence was measured on.
    fresh: the chosen point and the unpruned policy, scored on as many new episodes that did not
    select the point.
    """

    teacher: str
    seed: int
    episodes: int
    states: int
    heal_steps: int
    wish: SelectionRule
    influence: dict[str, list[float]]
    points: list[Point]
    chosen: int
    fresh: PairedScores

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Pruned:
    """The written policy and its curve."""

    policy: DeployedPolicy
    curve: Curve


def prune_policy(
    path: Path,
    wish: SelectionRule,
    orders: Sequence[Order],
    measure: Measure,
    heal: int,
    episodes: int,
    seed: int,
    out: Path,
    display: ProgressDisplay,
) -> Pruned:
    """Remove blocks from the policy in `path`, and write the chosen policy and the curve to `out`.

    See `kilolayer.prune` for the arguments.
    """
    for order in orders or ("",):
        require_choice("order", order, get_args(Order))
    require_choice("measure", measure, get_args(Measure))
    if measure != "divergence" and "one-shot" not in orders:
        raise bad_field("measure", measure, "it needs --order one-shot")
    require_unused(out)
    if episodes < 2:
        raise bad_field("episodes", episodes, "an interval needs at least two", 128)
    if not 0 <= heal <= MAX_INT32:
        allowed = f"it must lie in [0, {MAX_INT32}] environment steps"
        raise bad_field("heal", heal, allowed, 0 if heal < 0 else MAX_INT32)
    unpruned = open_policy(path)
    builder = _CurveBuilder(unpruned, episodes, seed, display)
    counts = point_counts(unpruned.spec.torso.num_blocks)
    if len(counts) < 2:
        raise UserError(
            f"the policy in {path} has a single block, which cannot be removed: use "
            "`kilolayer distil`."
        )
    latencies = builder.latencies(counts)
    if wish.target_latency is not None:
        _require_reachable(wish.target_latency, latencies)
    display.phase("influence")
    visited = visited_states(unpruned, STATES, seed)
    influence = block_influence(unpruned.agent_state, visited)
    found = builder.curve(orders, getattr(influence, measure), latencies, visited, heal)
    points = [point for point, _ in found]
    chosen = choose(points, wish)
    display.phase("fresh episodes")
    curve = Curve(
        teacher=str(path),
        seed=seed,
        episodes=episodes,
        states=STATES,
        heal_steps=heal,
        wish=wish,
        influence={name: array.tolist() for name, array in influence._asdict().items()},
        points=points,
        chosen=chosen,
        fresh=builder.on_new_episodes(found[chosen][1]),
    )
    return Pruned(_write(unpruned, curve, found[chosen][1], out), curve)


def point_counts(blocks: int) -> list[int]:
    """Number of blocks that each point of the curve keeps, from all to one."""
    counts = np.linspace(blocks, 1, min(blocks, MAX_POINTS)).round().astype(int)
    return counts.tolist()


def choose(points: Sequence[Point], wish: SelectionRule) -> int:
    """The index of the point that meets the rule; the first point is the unpruned policy.

    Raises UserError if the unpruned policy never reaches its goal, since it has no score to keep.
    """
    unpruned = points[0].score
    if unpruned <= 0:
        raise UserError(
            "the policy never reaches its goal, so it has no score to keep: train longer."
        )
    if wish.target_latency is not None:
        meets = [n for n, point in enumerate(points) if point.latency <= wish.target_latency]
        return max(meets, key=lambda n: (points[n].score, -points[n].blocks))
    meets = [n for n, point in enumerate(points) if point.score >= wish.keep_score * unpruned]
    return min(meets, key=lambda n: (points[n].blocks, -points[n].score))


def pruned_spec(spec: ActorSpec, blocks: int) -> ActorSpec:
    """The spec of a policy with `blocks` blocks left. The residual branches keep their scale."""
    depth = blocks * spec.torso.layers_per_block
    return dataclasses.replace(spec, torso=dataclasses.replace(spec.torso, depth=depth))


def latency(actor: Actor, spec: ActorSpec) -> float:
    """Median milliseconds of one deterministic action, jitted, on JAX's default device.

    Inputs and output are numpy arrays, as in a control loop.
    """
    policy = Policy(ActorAgent(), actor, spec.task)
    observation = np.zeros(spec.task.observation_dim, np.float32)
    goal = np.zeros(spec.task.goal_dim, np.float32)
    seconds = []
    for _ in range(LATENCY_CALLS + 10):
        start = time.perf_counter()
        policy(observation, goal)
        seconds.append(time.perf_counter() - start)
    # The first ten calls compile and warm the caches.
    return 1e3 * float(np.median(seconds[10:]))


@dataclass(frozen=True)
class _CurveBuilder:
    unpruned: DeployedPolicy
    episodes: int
    seed: int
    display: ProgressDisplay

    def latencies(self, counts: Sequence[int]) -> dict[int, float]:
        """Latency of one action in milliseconds, by the number of blocks kept."""
        self.display.phase("latency")
        found = {}
        for done, count in enumerate(counts, start=1):
            actor = select_blocks(self.unpruned.agent_state, range(count))
            found[count] = latency(actor, pruned_spec(self.unpruned.spec, count))
            self.display.advance(done, len(counts), ms=found[count])
        return found

    def curve(
        self,
        orders: Sequence[Order],
        influence: np.ndarray,
        latencies: dict[int, float],
        visited: Visited,
        heal_steps: int,
    ) -> list[tuple[Point, Actor]]:
        """Every point with its actor, for each order and the block counts in `latencies`."""
        unpruned, choices = self.unpruned, []
        for order in dict.fromkeys(orders):
            if order == "greedy":
                self.display.phase("greedy")
                removal = greedy(unpruned.agent_state, visited, self.display.advance)
            else:
                removal = one_shot(influence)
            choices += [(order, kept) for kept in removal if len(kept) in latencies]
        scorer = Scorer(unpruned.task, unpruned.config, self.episodes, self.seed)
        # Different orders share many choices, so each choice is measured once.
        measured: dict[tuple[int, ...], list[tuple[Point, Actor]]] = {}
        found: list[tuple[Point, Actor]] = []
        for done, (order, kept) in enumerate(choices):
            self.display.phase("score")
            self.display.advance(done, len(choices), blocks=len(kept))
            if tuple(kept) not in measured:
                point = Point(order, kept, False, 0.0, latencies[len(kept)], {})
                measured[tuple(kept)] = list(self._points(point, scorer, visited, heal_steps))
            found += [
                (dataclasses.replace(point, order=order), actor)
                for point, actor in measured[tuple(kept)]
            ]
        self.display.advance(len(choices), len(choices))
        return found

    def on_new_episodes(self, actor: Actor) -> PairedScores:
        """Score the chosen and the unpruned policy on episodes that did not select the point."""
        unpruned = self.unpruned
        scorer = Scorer(unpruned.task, unpruned.config, self.episodes, self.seed, NEW_EPISODES)
        ours = scorer.play(unpruned.agent, actor)
        baseline = scorer.play(unpruned.agent, unpruned.agent_state)
        return compare_paired(unpruned.task, ours, baseline)

    def _points(
        self, point: Point, scorer: Scorer, visited: Visited, heal_steps: int
    ) -> Iterator[tuple[Point, Actor]]:
        """The point with its divergence and scores, then the distilled point if there is one."""
        teacher = self.unpruned.agent_state

        def measure(actor: Actor, healed: bool) -> tuple[Point, Actor]:
            scores = scorer.scores(self.unpruned.agent, actor)
            divergence = float(_divergence(teacher, actor, visited))
            return dataclasses.replace(
                point, healed=healed, divergence=divergence, scores=scores
            ), actor

        actor = select_blocks(teacher, point.kept)
        yield measure(actor, healed=False)
        if heal_steps and point.blocks < self.unpruned.spec.torso.num_blocks:
            recipe = Recipe(steps=heal_steps, learning_rate=HEALED_LEARNING_RATE, teacher_acts=0.0)
            spec = pruned_spec(self.unpruned.spec, point.blocks)
            healed = train_student(
                self.unpruned, spec, recipe, self.seed, self.display, start=actor
            )
            yield measure(healed.actor, healed=True)


@jax.jit
def _divergence(teacher: Actor, student: Actor, visited: Visited) -> jax.Array:
    """Mean KL(teacher || student) over the states, in nats."""
    return gaussian_divergence(teacher(*visited), student(*visited)).mean()


def _require_reachable(target: float, latencies: dict[int, float]) -> None:
    smallest = min(latencies, key=lambda count: latencies[count])
    if latencies[smallest] > target:
        raise UserError(
            f"target_latency = {target} ms cannot be met on this machine: the smallest latency is "
            f"{latencies[smallest]:.3g} ms, with {smallest} of {max(latencies)} blocks."
        )


def _write(unpruned: DeployedPolicy, curve: Curve, actor: Actor, out: Path) -> DeployedPolicy:
    point = curve.points[curve.chosen]
    details: dict[str, Any] = {
        "teacher": curve.teacher,
        "blocks": curve.points[0].blocks,
        **dataclasses.asdict(point),
        # Scores of new episodes. The scores that selected the point are in the curve.
        "scores": curve.fresh.scores,
        "teacher_scores": curve.fresh.baseline,
        "change": dataclasses.asdict(curve.fresh.change),
        "seed": curve.seed,
        "episodes": curve.episodes,
        "heal_steps": curve.heal_steps,
    }
    spec = pruned_spec(unpruned.spec, point.blocks)
    policy = dataclasses.replace(
        unpruned, spec=spec, agent_state=actor, method="prune", details=details
    ).save(out)
    write_atomically(out / FILE, curve.to_json())
    return policy
