"""A grounding: the trained network that maps an instruction to a goal, and its directory."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from kilolayer.config import RunConfig
from kilolayer.errors import UserError
from kilolayer.language.base import Context, Encoder
from kilolayer.language.fusion import ContextScale
from kilolayer.language.goal_head import (
    EmbeddingScale,
    GoalHead,
    GoalScale,
    HeadSize,
    HeadSpec,
    most_probable_goal,
)
from kilolayer.losses.energies import RENAMED, Energy, pairwise
from kilolayer.runtime.tensors import TensorDirectory
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import task_of
from kilolayer.types import Array

DIRECTORY = TensorDirectory("grounding", version=1)


class GoalPrediction(NamedTuple):
    """The predicted goals of instructions, one row each.

    goal `[rows, goal]` and confidence `[rows]`: see `most_probable_goal`. familiarity `[rows]`:
    cosine similarity to the nearest training sentence. familiar `[rows]`: whether the familiarity
    is as high as among the training sentences. embedded_goal `[rows, goal]`: the candidate goal
    with the nearest embedding; None if the run has no contrastive critic.
    """

    goal: np.ndarray
    confidence: np.ndarray
    familiarity: np.ndarray
    familiar: np.ndarray
    embedded_goal: np.ndarray | None = None


class Embeddings(eqx.Module):
    """The goal-embedding space of a run's critic: its scale and its candidate goals.

    goals `[candidates, goal]`; points `[candidates, representation]`.
    """

    scale: EmbeddingScale
    goals: Array
    points: Array


class Arrays(eqx.Module):
    """All arrays of a grounding.

    sentences: text features of the distinct training sentences, with norm 1, `[sentences,
    text_dim]`. threshold: the least familiarity of a familiar sentence.
    """

    head: GoalHead
    features: ContextScale
    scale: GoalScale
    embeddings: Embeddings | None
    sentences: Array
    threshold: Array

    def predict(self, task: Task, energy: Energy, context: Context) -> GoalPrediction:
        """The goals of instructions; can be traced by JAX."""
        scale, space = self.scale, self.embeddings
        mixture, point = self.head(self.features(context), scale, space and space.scale)
        goal, confidence = most_probable_goal(task, mixture, scale)
        familiarity = (unit_norm(context.text) @ self.sentences.T).max(-1)
        embedded = None
        if point is not None and space is not None:
            embedded = space.goals[pairwise(energy, point, space.points).argmax(-1)]
        fields: Any = (goal, confidence, familiarity, familiarity >= self.threshold, embedded)
        return GoalPrediction(*fields)


def untrained_arrays(
    spec: HeadSpec, sentences: int, representation: int | None, candidates: int | None
) -> Arrays:
    """Arrays of the shapes of a grounding; representation and candidates: None without
    embeddings."""
    embeddings = None
    if representation is not None and candidates is not None:
        zeros = jnp.zeros(representation)
        embeddings = Embeddings(
            EmbeddingScale(zeros, zeros),
            jnp.zeros((candidates, spec.goal_dim)),
            jnp.zeros((candidates, representation)),
        )
    text = jnp.zeros((sentences, spec.text_dim))
    return Arrays(*spec.init(representation), embeddings, text, jnp.float32(0))


@dataclass(frozen=True)
class Grounding:
    """A trained grounding. It works with every policy of its task.

    config: of the run, for the task. encoder: the frozen encoder that it was trained with.
    sentences: the training sentences in the order of their features. details: facts about the
    training, as JSON values.
    """

    path: Path
    config: RunConfig
    encoder: Encoder
    size: HeadSize
    energy: Energy
    arrays: Arrays
    sentences: tuple[str, ...]
    details: dict[str, Any]

    @cached_property
    def task(self) -> Task:
        return task_of(self.config.task)

    @property
    def spec(self) -> HeadSpec:
        arrays = self.arrays
        return HeadSpec(
            self.size,
            text_dim=arrays.sentences.shape[1],
            patches=arrays.head.fusion.patches,
            patch_dim=arrays.head.fusion.key.shape[0],
            goal_dim=len(arrays.scale.centre),
            varying=arrays.scale.varying,
        )

    def predict(self, context: Context) -> GoalPrediction:
        """The goals of instructions, from features made by `encode_context`."""
        return jax.tree.map(np.asarray, self._predict(self.arrays, context))

    def attention(self, context: Context) -> np.ndarray:
        """Attention of the sentence over the picture's patches, `[rows, heads, patches]`."""
        return np.asarray(self.arrays.head.fusion.attend(self.arrays.features(context))[1])

    def nearest_sentences(self, context: Context, count: int = 3) -> list[list[tuple[str, float]]]:
        """The nearest training sentences of each row, with their cosine similarity."""
        similarity = np.asarray(unit_norm(context.text) @ self.arrays.sentences.T)
        return most_similar(similarity, self.sentences, count)

    def require_task(self, task: Task) -> None:
        """Raises UserError unless the grounding was trained on this task."""
        if task.name != self.task.name:
            raise UserError(
                f"the grounding {self.path} was trained for the task {self.task.name} and this is "
                f"{task.name}: train one for it with `kilolayer ground`."
            )

    def save(self, path: Path) -> "Grounding":
        """Write a grounding directory and return the grounding with the new path.

        Raises UserError if the path exists or cannot be written.
        """
        embeddings, shapes = self.arrays.embeddings, dataclasses.asdict(self.spec)
        size = shapes.pop("size")
        card = {
            "encoder": {"name": self.encoder.name, "fingerprint": self.encoder.fingerprint()},
            "config": json.loads(self.config.to_json()),
            "size": size,
            "shapes": {
                **shapes,
                "sentences": len(self.sentences),
                "representation": embeddings and embeddings.points.shape[1],
                "candidates": embeddings and embeddings.points.shape[0],
            },
            "energy": self.energy,
            "details": self.details,
            "sentences": self.sentences,
        }
        DIRECTORY.write(path, self.arrays, card)
        return dataclasses.replace(self, path=path)

    @cached_property
    def _predict(self) -> Any:
        # Pass the arrays as an argument: XLA would fold constants into the program.
        return jax.jit(lambda arrays, context: arrays.predict(self.task, self.energy, context))


def is_grounding(path: str | Path) -> bool:
    """Whether the path is a grounding directory."""
    return DIRECTORY.exists(path)


def open_grounding(path: str | Path, encoder: Encoder | None = None) -> Grounding:
    """Open the grounding in a directory.

    encoder: default the one that the card names. Raises UserError if there is no grounding, if its
    files are damaged, or if the encoder is not bit for bit the one used in training.
    """
    path = Path(path)
    card = DIRECTORY.card(path)
    try:
        name, fingerprint = card["encoder"]["name"], card["encoder"]["fingerprint"]
        config = RunConfig.from_json(json.dumps(card["config"]), str(path / DIRECTORY.card_name))
        details, sentences = card["details"], tuple(card["sentences"])
        shapes = {"size": card["size"], **card["shapes"]}
        counts = {each: shapes.pop(each) for each in ("sentences", "representation", "candidates")}
        spec = HeadSpec.from_json(shapes)
        energy: Any = RENAMED.get(card["energy"], card["energy"])
    except (KeyError, TypeError) as error:
        raise DIRECTORY.damaged(path, error) from error
    if encoder is None:
        from kilolayer.language.encoders.open import open_encoder

        encoder = open_encoder(name)
    if encoder.fingerprint() != fingerprint:
        raise UserError(
            f"the encoder {encoder.name} is not the one that {path} was trained with ({name}, "
            f"{fingerprint[:12]}): use that one, or train a new grounding."
        )
    arrays = DIRECTORY.fill(jax.eval_shape(lambda: untrained_arrays(spec, **counts)), path)
    return Grounding(path, config, encoder, spec.size, energy, arrays, sentences, details)


def most_similar(
    similarity: np.ndarray, sentences: Sequence[str], count: int
) -> list[list[tuple[str, float]]]:
    """The most similar sentences of each row of `similarity [rows, sentences]`, best first."""
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return [
        [(sentences[int(index)], float(row[index])) for index in indices]
        for row, indices in zip(similarity, best, strict=True)
    ]


def unit_norm(rows: ArrayLike) -> Array:
    """The rows scaled to norm 1, so that their dot products are cosines."""
    rows = jnp.asarray(rows)
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
