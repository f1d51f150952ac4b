"""Trains a grounding: the task's instructions, a frozen encoder, the critic's goal embeddings."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge
from jax.typing import ArrayLike

from kilolayer.agents.crl import CRL, Critic
from kilolayer.agents.optimiser import network_optimiser
from kilolayer.analysis.load import Run
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import open_run_or_policy
from kilolayer.errors import UserError
from kilolayer.language.base import Context, Encoder, Example
from kilolayer.language.board import require_instructions
from kilolayer.language.contexts import encode_examples
from kilolayer.language.fusion import ContextScale
from kilolayer.language.goal_head import (
    EmbeddingScale,
    GoalHead,
    GoalScale,
    HeadSize,
    candidate_goals,
    likelihood_loss,
    nearest_loss,
)
from kilolayer.language.grounding import Arrays, Embeddings, Grounding, open_grounding, unit_norm
from kilolayer.language.instructions import draw_examples
from kilolayer.losses.energies import Energy, pairwise
from kilolayer.runtime.files import require_unused
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.runtime.zoo import default_output
from kilolayer.settings import Count, NonNegative, Positive, Settings
from kilolayer.tasks.base import Task, is_success
from kilolayer.tasks.registry import task_of
from kilolayer.types import Array, Metrics

HELD_OUT = 0.125  # share of the examples used only for validation
FAMILIAR_QUANTILE = 0.01
PROGRESS_EVERY = 50  # updates
ENERGY_DEVIATION = 8.0  # standard deviation of the scaled energies in the nearest-goal loss


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of the training. The learning rate falls to zero on a cosine schedule.

    examples: number of examples of the split `seen`; an eighth is held out.
    """

    examples: Annotated[int, Ge(16)] = 4096
    updates: Count = 1500
    batch_size: Annotated[int, Ge(2)] = 128
    learning_rate: Positive = 3e-3
    weight_decay: NonNegative = 1e-4


class Source(NamedTuple):
    """The config of a run or policy directory, and its critic if that is contrastive."""

    config: RunConfig
    critic: Critic | None
    energy: Energy


class Data(NamedTuple):
    """Training data, one row per example: features, goals and the goals' embeddings, if any."""

    context: Context
    goal: Array
    embedding: Array | None


def load_source(path: str | Path) -> Source:
    """The source in a run or policy directory; raises UserError if it is neither."""
    run = open_run_or_policy(path)
    agent = run.config.agent
    if isinstance(run, Run) and isinstance(agent, CRL):
        return Source(run.config, run.agent_state.parameters.critic, agent.energy)
    return Source(run.config, None, "euclidean")


def train_grounding(
    run: str | Path,
    encoder: Encoder,
    out: str | Path | None = None,
    recipe: Recipe | None = None,
    size: HeadSize | None = None,
    seed: int = 0,
    display: ProgressDisplay | None = None,
) -> Grounding:
    """Train a grounding for the task of a run or policy directory and write it.

    out: the directory to write. Default: under `groundings/` in the run, with the encoder's name.
    `details` record the run, the losses and the held-out scores. Raises UserError for invalid
    arguments before any work.
    """
    run, recipe, size = Path(run), recipe or Recipe(), size or HeadSize()
    display = display or SilentDisplay()
    source = load_source(run)
    task = task_of(source.config.task)
    require_instructions(task)
    out = output_path(run, out, "groundings", f"{directory_name(encoder)}-seed{seed}")
    with require_frozen(encoder):
        examples, context = training_examples(task, encoder, recipe.examples, seed, display)
        grounding = fit(source, encoder, examples, context, recipe, size, seed, display)
    details = {"run": str(run), "seed": seed, **grounding.details}
    saved = dataclasses.replace(grounding, details=details).save(out)
    return open_grounding(saved.path, encoder)


def directory_name(encoder: Encoder) -> str:
    """The encoder's name as a part of a directory's name."""
    return encoder.name.replace("/", "-").strip("-.")


def output_path(run: Path, out: str | Path | None, folder: str, name: str) -> Path:
    """`out`, by default `name` in a folder of the run; raises UserError unless it is unused."""
    path = default_output(run, folder) / name if out is None else Path(out)
    require_unused(path)
    return path


@contextmanager
def require_frozen(encoder: Encoder) -> Iterator[str]:
    """Yield the encoder's fingerprint; raise UserError if it changes inside the block."""
    before = encoder.fingerprint()
    yield before
    if encoder.fingerprint() != before:
        raise UserError(f"the encoder {encoder.name} changed while it was used: it is not frozen.")


def training_examples(
    task: Task, encoder: Encoder, count: int, seed: int, display: ProgressDisplay
) -> tuple[list[Example], Context]:
    """Examples of the split `seen` and their frozen features."""
    display.phase("draw")
    examples = draw_examples(task, "seen", count, seed)
    return examples, encode_examples(task, encoder, examples, display)


def fit(
    source: Source,
    encoder: Encoder,
    examples: list[Example],
    context: Context,
    recipe: Recipe,
    size: HeadSize,
    seed: int,
    display: ProgressDisplay,
) -> Grounding:
    """A grounding trained on examples and their features; the last eighth is for validation."""
    task, began = task_of(source.config.task), time.perf_counter()
    goals = np.array([example.goal for example in examples], np.float32)
    count = len(examples) - max(1, int(HELD_OUT * len(examples)))
    scale = GoalScale.of(goals[:count], task.goal.radius)
    if not scale.varying:
        raise UserError(
            f"all instructions of the task {task.name} mean the same goal: nothing to learn."
        )
    embeddings = critic_embeddings(source.critic, task, goals[:count])
    psi = None if source.critic is None else _embed(source.critic, jnp.asarray(goals))
    data = Data(jax.tree.map(jnp.asarray, context), jnp.asarray(goals), psi)
    features = ContextScale.of(_rows(context, slice(count)))
    key = jax.random.key(seed)
    representation = embeddings and embeddings.points.shape[1]
    init = jax.jit(
        lambda key: GoalHead.init(key, context, size, len(scale.varying), representation)
    )
    head = init(jax.random.fold_in(key, 0))
    display.phase("ground")
    energy_scale = scale_of_energies(embeddings, source.energy)
    trainer = Trainer(recipe, features, scale, embeddings, source.energy, energy_scale)
    train, held_out = _rows(data, slice(count)), _rows(data, slice(count, None))
    head, losses = trainer.train(head, train, held_out, jax.random.fold_in(key, 1), display)
    sentences, text, threshold = familiar_sentences(
        [example.sentence for example in examples[:count]], context.text[:count]
    )
    arrays = Arrays(head, features, scale, embeddings, text, threshold)
    details = {
        "recipe": dataclasses.asdict(recipe),
        "losses": losses,
        "seconds": round(time.perf_counter() - began, 2),
    }
    grounding = Grounding(
        Path(), source.config, encoder, size, source.energy, arrays, sentences, details
    )
    details["held_out"] = held_out_scores(grounding, held_out)
    return grounding


def critic_embeddings(critic: Critic | None, task: Task, goals: np.ndarray) -> Embeddings | None:
    """A critic's embedding space and candidate goals. goals `[rows, goal]`: training goals."""
    if critic is None:
        return None
    candidates = candidate_goals(task)
    points = np.asarray(_embed(critic, jnp.asarray(goals)))
    scale = EmbeddingScale(jnp.asarray(points.mean(0)), jnp.asarray(points.std(0)))
    return Embeddings(scale, candidates, _embed(critic, candidates))


def familiar_sentences(
    sentences: list[str], text: ArrayLike
) -> tuple[tuple[str, ...], Array, Array]:
    """The distinct sentences, their unit features, and the least similarity of a familiar sentence.

    The threshold is the 1 % quantile, over the training sentences, of the similarity to the nearest
    other sentence.
    """
    unique, first = np.unique(sentences, return_index=True)
    distinct, features = tuple(unique.tolist()), unit_norm(jnp.asarray(text)[first])
    if len(distinct) < 2:
        return distinct, features, jnp.float32(-1)
    similarity = np.asarray(features @ features.T) - 2 * np.eye(len(distinct))
    return distinct, features, jnp.float32(np.quantile(similarity.max(-1), FAMILIAR_QUANTILE))


def held_out_scores(grounding: Grounding, data: Data) -> dict[str, float]:
    """Scores on the held-out examples of the training split; errors in the goal's unit."""
    task, prediction = grounding.task, grounding.predict(data.context)
    goal, embedded = np.asarray(data.goal), prediction.embedded_goal
    scores = {
        "goal_error": np.asarray(task.distance(jnp.asarray(prediction.goal), data.goal)).mean(),
        "right": np.asarray(is_success(task, prediction.goal, goal)).mean(),
        "confidence": prediction.confidence.mean(),
        "familiar": prediction.familiar.mean(),
    }
    if embedded is not None:
        scores["right_embedded"] = np.asarray(is_success(task, embedded, goal)).mean()
    return {name: float(value) for name, value in scores.items()}


def scale_of_energies(embeddings: Embeddings | None, energy: Energy) -> float:
    """The factor that gives the energies between candidate goals the standard deviation
    ENERGY_DEVIATION, for any critic."""
    if embeddings is None:
        return 1.0
    points = embeddings.points[:256]
    return ENERGY_DEVIATION / max(float(pairwise(energy, points, points).std()), 1e-6)


@dataclass(frozen=True)
class Trainer:
    """Minimises the sum of the two losses. Frozen arrays are ordinary inputs."""

    recipe: Recipe
    features: ContextScale
    scale: GoalScale
    embeddings: Embeddings | None
    energy: Energy
    energy_scale: float

    def loss(self, head: GoalHead, data: Data) -> tuple[Array, Metrics]:
        """Loss and metrics of a batch. The likelihood is in nats, with goals in the goal's unit."""
        mixture, point = head(
            self.features(data.context), self.scale, self.embeddings and self.embeddings.scale
        )
        likelihood = likelihood_loss(mixture, self.scale.select_varying(data.goal))
        metrics = {"negative_log_likelihood": likelihood}
        if point is None or data.embedding is None:
            return likelihood, metrics
        nearest, accuracy = nearest_loss(
            self.energy, point, data.embedding, data.goal, self.energy_scale
        )
        return likelihood + nearest, metrics | {"nearest": nearest} | accuracy

    def train(
        self, head: GoalHead, data: Data, held_out: Data, key: Array, display: ProgressDisplay
    ) -> tuple[GoalHead, dict[str, float]]:
        """Train; return the network and the losses of the last updates and of the held-out rows."""
        recipe = self.recipe
        schedule = optax.cosine_decay_schedule(recipe.learning_rate, recipe.updates)
        optimiser = network_optimiser(schedule, recipe.weight_decay)

        @jax.jit
        def updates(carry: tuple, data: Data, keys: Array) -> tuple[tuple, Metrics]:
            def update(carry: tuple, key: Array) -> tuple[tuple, Metrics]:
                head, state = carry
                batch = _rows(
                    data, jax.random.randint(key, (recipe.batch_size,), 0, len(data.goal))
                )
                gradient, metrics = jax.grad(self.loss, has_aux=True)(head, batch)
                change, state = optimiser.update(gradient, state, head)
                return (optax.apply_updates(head, change), state), metrics

            return jax.lax.scan(update, carry, keys)

        parameters: Any = head
        carry, metrics = (parameters, optimiser.init(parameters)), {}
        keys = jax.random.split(key, recipe.updates)
        for start in range(0, recipe.updates, PROGRESS_EVERY):
            done = min(start + PROGRESS_EVERY, recipe.updates)
            carry, metrics = updates(carry, data, keys[start:done])
            loss = float(metrics["negative_log_likelihood"].mean())
            if not np.isfinite(loss):
                raise UserError(
                    f"the grounding diverged after {done:,} updates: lower "
                    f"learning_rate = {recipe.learning_rate}."
                )
            display.advance(done, recipe.updates, loss=loss)
        losses = {f"last/{name}": float(value.mean()) for name, value in metrics.items()}
        _, metrics = jax.jit(self.loss)(carry[0], held_out)
        losses |= {f"held_out/{name}": float(value) for name, value in metrics.items()}
        return carry[0], losses


@jax.jit
def _embed(critic: Critic, goals: Array) -> Array:
    return critic.goal(goals)


def _rows(data: Any, rows: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], data)
