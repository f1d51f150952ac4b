"""Evaluation of a grounding or an action module: success by split, failures and latency."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.config import RunConfig
from kilolayer.deploy.latency import Timing
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.errors import require_at_least
from kilolayer.language.base import SPLITS, Context, Encoder, Example
from kilolayer.language.contexts import encode_context, encode_examples
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.evaluation_set import EvaluationSet, GoalPolicy, ModulePolicy, derangement
from kilolayer.language.evidence import (
    BOUND,
    CHANCE,
    CORRECT,
    SHUFFLED,
    Evidence,
    Failure,
    RouterUse,
    Score,
)
from kilolayer.language.grounding import Grounding, most_similar, unit_norm
from kilolayer.language.instructions import draw_examples
from kilolayer.language.module import control_step
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.train_module import TrainedModule
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import Episodes, episode_scores

FAILURES = 6  # failures that the report shows
TIMED = 8  # examples used to time the parts
REPEATS = 50
MAX_SECONDS = 2.0  # after which the timing of a slow part stops
TRAINING_SENTENCES = 512  # of a module, from which the nearest ones are chosen
NEAREST = 3


def require_episodes(episodes: int) -> None:
    """Raises UserError for fewer than one episode of each split. Call it before long work."""
    require_at_least(1, episodes=episodes)


def evaluate_grounding(
    grounding: Grounding,
    policy: Run | DeployedPolicy,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> Evidence:
    """Evaluate a grounding with a policy of its task, on `episodes` episodes of each split."""
    task, encoder = grounding.task, grounding.encoder
    evaluation, context = _draw(task, encoder, policy.config, episodes, seed, display)
    prediction, goal = grounding.predict(context), np.asarray(evaluation.goal)
    other = derangement(len(goal), seed)
    conditions = {
        "this grounding": prediction.goal,
        BOUND: goal,
        SHUFFLED: prediction.goal[other],
        CHANCE: goal[other],
    }
    play = evaluation.play(GoalPolicy(policy.agent))
    scores = score_conditions(evaluation, play, policy.agent_state, conditions, display)
    correct = np.asarray(is_success(task, prediction.goal, goal))
    scores += count_successes(evaluation, CORRECT, correct)
    act, observation = policy.policy, np.zeros(len(task.observation), np.float32)
    networks = {
        "predict goal": grounding.predict,
        "policy step": lambda _: act(observation, goal[0]),
    }
    return _evidence(
        evaluation,
        encoder,
        networks,
        kind="grounding",
        about={
            "acts": f"the policy of {policy.path.name}, depth {depth_of(policy)}",
            "encoder": encoder.name,
            "encoder fingerprint": encoder.fingerprint()[:16],
            "training sentences": len(grounding.sentences),
            "episodes of each split": episodes,
            "seed": seed,
            "network": asdict(grounding.size),
            **{name: value for name, value in grounding.details.items() if name != "losses"},
        },
        scores=scores,
        failures=describe_failures(
            evaluation.examples, context, ~correct, prediction.goal, prediction.confidence,
            grounding.nearest_sentences, grounding.attention,
        ),
        routers=[],
    )  # fmt: skip


def evaluate_module(
    module: TrainedModule,
    encoder: Encoder,
    teacher: Run | DeployedPolicy,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> Evidence:
    """Evaluate an action module beside its teacher, on `episodes` episodes of each split."""
    module.require_encoder(encoder)
    task = module.task
    evaluation, context = _draw(task, encoder, module.config, episodes, seed, display)
    embedding, goal = np.asarray(module.embed(context)), np.asarray(evaluation.goal)
    other = derangement(len(goal), seed)
    play, play_teacher = map(evaluation.play, (ModulePolicy(), GoalPolicy(teacher.agent)))
    own, bounds = {"this module": embedding}, {BOUND: goal, CHANCE: goal[other]}
    shuffled = {SHUFFLED: embedding[other]}
    scores = [
        *score_conditions(evaluation, play, module.module, own, display),
        *score_conditions(evaluation, play_teacher, teacher.agent_state, bounds, display),
        *score_conditions(evaluation, play, module.module, shuffled, display),
    ]
    rollouts = play(module.module, embedding)
    last_step = np.maximum(rollouts.alive.sum(0) - 1, 0)
    places = np.asarray(rollouts.achieved)[last_step, np.arange(len(goal))]
    step = control_step(module.module)
    observation = np.zeros(len(task.observation), np.float32)
    networks = {
        "embed instruction": module.embed,
        "module step": lambda _: step(observation, embedding[0]),
    }
    return _evidence(
        evaluation,
        encoder,
        networks,
        kind="module",
        about={
            "acts": f"the module, trained from {teacher.path.name}, depth {depth_of(teacher)}",
            "encoder": module.encoder["name"],
            "encoder fingerprint": module.encoder["fingerprint"][:16],
            "episodes of each split": episodes,
            "seed": seed,
            "module": module.spec.to_json(),
            **{n: v for n, v in module.details.items() if n not in ("history", "played")},
        },
        scores=scores,
        failures=describe_failures(
            evaluation.examples, context, ~episode_scores(task, rollouts)["success"], places, None,
            _nearest_sentences(module, encoder), module.instruction_encoder.attention,
        ),
        routers=router_rows(module.details["played"].get("router", {})),
    )  # fmt: skip


def _draw(
    task: Task,
    encoder: Encoder,
    config: RunConfig,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> tuple[EvaluationSet, Context]:
    """`episodes` examples of each split and their features; no training example of this seed."""
    display.phase("evaluate")
    # Training draws with the users' seeds, which start at zero.
    apart = 1_000_000 + seed
    examples = [each for split in SPLITS for each in draw_examples(task, split, episodes, apart)]
    context = encode_examples(task, encoder, examples, display)
    return EvaluationSet(task, config, examples, seed), context


def _evidence(
    evaluation: EvaluationSet,
    encoder: Encoder,
    networks: Mapping[str, Callable[[Context], Any]],
    **results: Any,
) -> Evidence:
    """The results with what all evaluations record. networks: see `time_parts`."""
    task, examples = evaluation.task, evaluation.examples[:TIMED]
    return Evidence(
        task=task.name,
        config=json.loads(evaluation.config.to_json()),
        latency=time_parts(task, encoder, examples, networks),
        manifest=describe_run(evaluation.seed),
        **results,
    )


def depth_of(policy: Run | DeployedPolicy) -> int:
    """Depth of the actor network."""
    return policy.schedule.actor_torso.depth if isinstance(policy, Run) else policy.spec.torso.depth


def score_conditions(
    evaluation: EvaluationSet,
    play: Callable[[Any, Any], Episodes],
    state: Any,
    conditions: Mapping[str, Any],
    display: ProgressDisplay,
) -> list[Score]:
    """Scores of one policy by split and kind, for each of the named conditions."""
    scores = []
    display.phase("episodes")
    for done, (name, condition) in enumerate(conditions.items(), 1):
        success = episode_scores(evaluation.task, play(state, condition))["success"]
        scores += count_successes(evaluation, name, success)
        display.advance(done, len(conditions), success=float(success.mean()))
    return scores


def count_successes(evaluation: EvaluationSet, name: str, success: np.ndarray) -> list[Score]:
    """Count the successes `[examples]` by split and kind."""
    groups = np.array([f"{example.split} {example.kind}" for example in evaluation.examples])
    scores = []
    for group in dict.fromkeys(groups.tolist()):
        rows, (split, kind) = groups == group, group.split()
        scores.append(Score(name, split, kind, int(rows.sum()), int(success[rows].sum())))
    return scores


def describe_failures(
    examples: Sequence[Example],
    context: Context,
    failed: np.ndarray,
    places: np.ndarray,
    confidence: np.ndarray | None,
    nearest: Callable[[Context], list[list[tuple[str, float]]]],
    attention: Callable[[Context], Any],
) -> list[Failure]:
    """The first few failed examples, taken from each split in turn.

    failed `[examples]`. places `[examples, goal]`: the predicted goal, or where the agent ended.
    confidence `[examples]`. nearest, attention: functions of features, see
    `Grounding.nearest_sentences` and `Grounding.attention`.
    """
    by_split = [
        [row for row in np.flatnonzero(failed).tolist() if examples[row].split == split]
        for split in SPLITS
    ]
    rows = [row for turn in zip_longest(*by_split) for row in turn if row is not None][:FAILURES]
    if not rows:
        return []
    part = jax.tree.map(lambda leaf: leaf[np.array(rows)], context)
    return [
        Failure(
            split=examples[row].split,
            kind=examples[row].kind,
            sentence=examples[row].sentence,
            markers=[(marker.colour, *marker.place) for marker in examples[row].markers],
            goal=list(map(float, examples[row].goal)),
            place=places[row].tolist(),
            confidence=None if confidence is None else float(confidence[row]),
            nearest=sentences,
            attention=attention_grid(weights),
        )
        for row, sentences, weights in zip(
            rows, nearest(part), np.asarray(attention(part)).mean(1), strict=True
        )
    ]


def attention_grid(attention: np.ndarray) -> list[list[float]] | None:
    """Attention `[patches]` as `[side, side]`, row by row; None if the patches form no square."""
    side = round(len(attention) ** 0.5)
    if side < 2 or side * side != len(attention):
        return None
    return attention.reshape(side, side).round(6).tolist()


def router_rows(gates: Mapping[str, Any]) -> list[RouterUse]:
    """The result of `mean_gates` as one row per kind and per phase; empty without routers."""
    return [
        RouterUse(by, name, use)
        for by, key in (("instruction", "by_kind"), ("phase of the movement", "by_phase"))
        for name, use in gates.get(key, {}).items()
        if use
    ]


def _nearest_sentences(
    module: TrainedModule, encoder: Encoder
) -> Callable[[Context], list[list[tuple[str, float]]]]:
    # All examples are drawn, because fewer examples of the same seed are other ones.
    count, seed = module.details["examples"], module.details["seed"]
    examples = draw_examples(module.task, "seen", count, seed)[:TRAINING_SENTENCES]
    sentences = list(dict.fromkeys(example.sentence for example in examples))
    features = np.asarray(unit_norm(encoder.text(sentences).pooled))
    return lambda context: most_similar(
        np.asarray(unit_norm(context.text)) @ features.T, sentences, NEAREST
    )


def time_parts(
    task: Task,
    encoder: Encoder,
    examples: Sequence[Example],
    networks: Mapping[str, Callable[[Context], Any]],
) -> dict[str, Timing]:
    """Seconds of each part between a sentence and an action, at batch 1, in the order of the
    pipeline.

    examples: timed in turn. networks: functions of one example's features, by the part's name.
    """
    pictures = draw_pictures(task, [example.markers for example in examples])

    def encode(encoder: Encoder, i: int) -> Context:
        return encode_context(encoder, [examples[i].sentence], pictures[i : i + 1])

    rows = [encode(encoder, i) for i in range(len(examples))]
    with tempfile.TemporaryDirectory() as directory:
        cached = CachedEncoder(encoder, directory)
        parts: dict[str, Callable[[int], Any]] = {
            "draw picture": lambda i: draw_pictures(task, [examples[i].markers]),
            "encode sentence": lambda i: encoder.text([examples[i].sentence]),
            "encode picture": lambda i: encoder.image(pictures[i : i + 1]),
            "both from the cache": lambda i: encode(cached, i),
        }
        parts |= {
            name: lambda i, network=network: jax.block_until_ready(network(rows[i]))
            for name, network in networks.items()
        }
        return {name: _time(part, len(examples)) for name, part in parts.items()}


def _time(part: Callable[[int], Any], count: int) -> Timing:
    """Time the part; one untimed call per example compiles and fills caches first."""
    for index in range(count):
        part(index)
    seconds: list[float] = []
    deadline = time.perf_counter() + MAX_SECONDS
    while len(seconds) < REPEATS and (len(seconds) < count or time.perf_counter() < deadline):
        began = time.perf_counter()
        part(len(seconds) % count)
        seconds.append(time.perf_counter() - began)
    return Timing.of(seconds)
