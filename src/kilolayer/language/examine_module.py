"""Evaluation of an action module, as `kilolayer.language.examine` evaluates a grounding."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.deploy.policy import DeployedPolicy
from kilolayer.language.base import Context, Encoder
from kilolayer.language.contexts import contexts
from kilolayer.language.evidence import BOUND, Evidence, RouterUse
from kilolayer.language.examine import (
    CHANCE,
    NEAREST,
    SHUFFLED,
    TIMED,
    Answers,
    depth_of,
    draw_exam,
    failures,
    played,
    succeeded,
)
from kilolayer.language.grounding import unit
from kilolayer.language.instructions import draw_examples
from kilolayer.language.latency import time_parts
from kilolayer.language.module import ActionModule, Carry
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.score import Exam, Told, others
from kilolayer.language.teach_run import TaughtModule
from kilolayer.runtime.manifest import describe_run
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.types import Array

KNOWN = 512  # training sentences that the nearest ones are chosen from


@dataclass(frozen=True)
class Chunks:
    """An action module as a Follower: `state` is the module, `told` are instruction readings."""

    def begin(self, state: ActionModule, told: Array) -> tuple[Array, Carry]:
        return told, state.begin(len(told))

    def act(
        self, state: ActionModule, memory: tuple[Array, Carry], observation: Array
    ) -> tuple[Array, tuple[Array, Carry]]:
        reading, carry = memory
        action, carry = state.act(carry, observation, reading)
        return action, (reading, carry)


def examine_module(
    module: TaughtModule,
    encoder: Encoder,
    teacher: Run | DeployedPolicy,
    episodes: int,
    seed: int,
    display: ProgressDisplay,
) -> Evidence:
    """Evaluate an action module beside its teacher, on `episodes` episodes of each split."""
    module.require_encoder(encoder)
    task = module.task
    display.phase("try out")
    examples = draw_exam(task, episodes, seed)
    pictures = draw_pictures(task, [example.markers for example in examples])
    context = contexts(encoder, [example.sentence for example in examples], pictures, display)
    exam, other = Exam(task, module.config, examples, seed), others(len(examples), seed)
    meant, reading = np.asarray(exam.goal), np.asarray(module.read(context))
    play = exam.play(Chunks())
    scores = [
        *played(exam, play, module.module, {"this module": reading}, display),
        *played(
            exam,
            exam.play(Told(teacher.agent)),
            teacher.agent_state,
            {BOUND: meant, CHANCE: meant[other]},
            display,
        ),
        *played(exam, play, module.module, {SHUFFLED: reading[other]}, display),
    ]
    own = play(module.module, reading)
    lost = ~succeeded(task, own)
    ends = np.asarray(own.achieved)[np.maximum(own.alive.sum(0) - 1, 0), np.arange(len(examples))]
    said = [each.sentence for each in draw_examples(task, "seen", KNOWN, module.details["seed"])]
    answers = Answers(
        ends, np.full(len(ends), np.nan), _nearest(encoder, said),
        lambda part: np.asarray(module.reader.attention(part)),
    )  # fmt: skip
    step = control_step(module.module)
    observation = np.zeros(len(task.observation), np.float32)
    return Evidence(
        kind="module",
        task=task.name,
        config=json.loads(module.config.to_json()),
        about=_about(module, teacher, episodes, seed),
        scores=scores,
        failures=failures(answers, examples, context, lost),
        routers=router_rows(module.details["played"].get("router", {})),
        latency=time_parts(
            task, encoder, examples[:TIMED],
            {"reading": module.read, "module, a step": lambda row: step(observation, reading[0])},
        ),
        manifest=describe_run(seed),
    )  # fmt: skip


def control_step(module: ActionModule) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A stateful function `(observation [observation], reading [reading]) -> action [action]`.

    Call it once per control step. The first actions of a chunk are executed before the next chunk
    is made.
    """
    carry = module.begin(1)
    # Pass the arrays as an argument: XLA would fold constants into the program.
    act = jax.jit(lambda module, *rows: module.act(*rows))

    def step(observation: np.ndarray, reading: np.ndarray) -> np.ndarray:
        nonlocal carry
        action, carry = act(module, carry, observation[None], reading[None])
        return np.asarray(action)[0]

    return step


def router_rows(used: Mapping[str, Any]) -> list[RouterUse]:
    """The result of `router_use` as one row per kind and per phase; empty without routers."""
    return [
        RouterUse(by, name, use)
        for by, key in (("instruction", "by_kind"), ("phase of the movement", "by_phase"))
        for name, use in used.get(key, {}).items()
        if use
    ]


def _nearest(
    encoder: Encoder, sentences: Sequence[str]
) -> Callable[[Context], list[list[tuple[str, float]]]]:
    known = list(dict.fromkeys(sentences))
    features = np.asarray(unit(encoder.text(known).pooled))

    def nearest(context: Context) -> list[list[tuple[str, float]]]:
        similar = np.asarray(unit(context.text)) @ features.T
        best = np.argsort(-similar, axis=1, kind="stable")[:, :NEAREST]
        return [
            [(known[index], float(row[index])) for index in indices]
            for row, indices in zip(similar, best, strict=True)
        ]

    return nearest


def _about(
    module: TaughtModule, teacher: Run | DeployedPolicy, episodes: int, seed: int
) -> dict[str, Any]:
    details = {
        name: value for name, value in module.details.items() if name not in ("history", "played")
    }
    return {
        "acts": f"the module, taught by {teacher.path.name}, depth {depth_of(teacher)}",
        "encoder": module.encoder["name"],
        "encoder fingerprint": module.encoder["fingerprint"][:16],
        "episodes of each split": episodes,
        "seed": seed,
        "module": asdict(module.spec),
        **details,
    }
