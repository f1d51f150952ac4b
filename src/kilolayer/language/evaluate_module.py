"""Evaluation of an action module, as `evaluate_grounding` evaluates a grounding."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.base import Context, Encoder
from kilolayer.language.contexts import encode_examples
from kilolayer.language.evaluate_grounding import (
    TIMED,
    depth_of,
    describe_failures,
    draw_evaluation_examples,
    is_reached,
    score_conditions,
)
from kilolayer.language.evaluation_set import (
    EvaluationSet,
    GoalPolicy,
    ModulePolicy,
    derangement,
)
from kilolayer.language.evidence import BOUND, CHANCE, SHUFFLED, Evidence, RouterUse
from kilolayer.language.grounding import most_similar, unit_norm
from kilolayer.language.instructions import draw_examples
from kilolayer.language.latency import time_parts
from kilolayer.language.module import ActionModule
from kilolayer.language.train_module import TrainedModule
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay

TRAINING_SENTENCES = 512  # from which the nearest ones are chosen
NEAREST = 3


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
    display.phase("evaluate")
    examples = draw_evaluation_examples(task, episodes, seed)
    context = encode_examples(task, encoder, examples, display)
    evaluation, count = EvaluationSet(task, module.config, examples, seed), len(examples)
    other, goal = derangement(count, seed), np.asarray(evaluation.goal)
    embedding = np.asarray(module.embed(context))
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
    failures = describe_failures(
        examples,
        context,
        ~is_reached(task, rollouts),
        places=np.asarray(rollouts.achieved)[last_step, np.arange(count)],
        confidence=None,
        nearest=_nearest_sentences(module, encoder),
        attention=lambda part: np.asarray(module.instruction_encoder.attention(part)),
    )
    step = control_step(module.module)
    observation = np.zeros(len(task.observation), np.float32)
    return Evidence(
        kind="module",
        task=task.name,
        config=json.loads(module.config.to_json()),
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
        failures=failures,
        routers=router_rows(module.details["played"].get("router", {})),
        latency=time_parts(
            task, encoder, examples[:TIMED],
            {"embed instruction": module.embed,
             "module step": lambda _: step(observation, embedding[0])},
        ),
        manifest=describe_run(seed),
    )  # fmt: skip


def control_step(module: ActionModule) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A stateful function `(observation [observation], embedding [embedding]) -> action [action]`.

    Call it once per control step. The first actions of a chunk are executed before the next chunk
    is made.
    """
    carry = module.initial_carry(1)
    # Pass the arrays as an argument: XLA would fold constants into the program.
    act = jax.jit(lambda module, *rows: module.act(*rows))

    def step(observation: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        nonlocal carry
        action, carry = act(module, carry, observation[None], embedding[None])
        return np.asarray(action)[0]

    return step


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
