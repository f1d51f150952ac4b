"""Trains a grounding: the task's instructions, a frozen encoder, the critic's goal embeddings."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from kilolayer.agents.crl import CRL, Critic
from kilolayer.agents.optimiser import network_optimiser
from kilolayer.analysis.load import load
from kilolayer.config import RunConfig
from kilolayer.deploy.policy import is_policy, open_policy
from kilolayer.language.base import Context, Encoder, Example
from kilolayer.language.board import require_words
from kilolayer.language.contexts import contexts
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
from kilolayer.language.grounding import (
    Arrays,
    Embeddings,
    Grounding,
    open_grounding,
    unit,
)
from kilolayer.language.instructions import draw_examples
from kilolayer.language.scenes import draw_pictures
from kilolayer.losses.energies import Energy, pairwise
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task, is_success
from kilolayer.tasks.registry import task_of
from kilolayer.types import Array, Metrics, UserError, bad_field

HELD_OUT = 0.125  # share of the examples used only for validation
FAMILIAR_QUANTILE = 0.01
SHOWN_EVERY = 50  # updates
SPREAD = 8.0  # standard deviation of the scaled energies in the nearest-goal loss


@dataclass(frozen=True)
class Recipe:
    """Settings of the training. The learning rate falls to zero on a cosine schedule.

    examples: number of examples of the split `seen`; an eighth is held out.
    """

    examples: int = 4096
    updates: int = 1500
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4

    def check(self) -> None:
        """Raises UserError for a value out of range."""
        for name, least in (("examples", 16), ("updates", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise bad_field(name, getattr(self, name), f"it must be at least {least}", least)
        if not self.learning_rate > 0:
            raise bad_field("learning_rate", self.learning_rate, "it must be greater than 0", 1e-3)
        if not self.weight_decay >= 0:
            raise bad_field("weight_decay", self.weight_decay, "it must not be negative", 0.0)


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


def source_of(path: str | Path) -> Source:
    """The source in a run or policy directory; raises UserError if it is neither."""
    path = Path(path)
    if is_policy(path):
        return Source(open_policy(path).config, None, "euclidean")
    run = load(path)
    agent = run.config.agent
    if not isinstance(agent, CRL):
        return Source(run.config, None, "euclidean")
    return Source(run.config, run.agent_state.parameters.critic, agent.energy)


def ground_run(
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
    recipe.check()
    size.check()
    source = source_of(run)
    task = task_of(source.config.task)
    require_words(task)
    name = encoder.name.replace("/", "-").strip("-.")
    out = Path(out) if out is not None else default_output(run, "groundings") / f"{name}-seed{seed}"
    if out.exists():
        raise bad_field("out", str(out), "it exists already, choose another")
    before = encoder.fingerprint()
    display.phase("draw")
    examples = draw_examples(task, "seen", recipe.examples, seed)
    pictures = draw_pictures(task, [example.markers for example in examples])
    sentences = [example.sentence for example in examples]
    context = contexts(encoder, sentences, pictures, display)
    grounding = fit(source, encoder, examples, context, recipe, size, seed, display)
    if encoder.fingerprint() != before:
        raise UserError(f"the encoder {encoder.name} changed while it was used: it is not frozen.")
    details = {"run": str(run), "seed": seed, **grounding.details}
    saved = dataclasses.replace(grounding, details=details).save(out)
    return open_grounding(saved.path, encoder)


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
    learnt = len(examples) - max(1, int(HELD_OUT * len(examples)))
    scale = GoalScale.of(goals[:learnt], task.goal.radius)
    if not scale.varying:
        raise UserError(
            f"all instructions of the task {task.name} mean the same goal: nothing to learn."
        )
    embeddings = goal_space(source.critic, task, goals[:learnt])
    psi = None if source.critic is None else _embed(source.critic, jnp.asarray(goals))
    data = Data(jax.tree.map(jnp.asarray, context), jnp.asarray(goals), psi)
    features = ContextScale.of(_rows(context, slice(learnt)))
    key = jax.random.key(seed)
    representation = embeddings and embeddings.points.shape[1]
    init = jax.jit(
        lambda key: GoalHead.init(key, context, size, len(scale.varying), representation)
    )
    head = init(jax.random.fold_in(key, 0))
    display.phase("ground")
    sharp = sharpness(embeddings, source.energy)
    trainer = Trainer(recipe, features, scale, embeddings, source.energy, sharp)
    train, held_out = _rows(data, slice(learnt)), _rows(data, slice(learnt, None))
    head, figures = trainer.train(head, train, held_out, jax.random.fold_in(key, 1), display)
    sentences, directions, threshold = familiar(
        [example.sentence for example in examples[:learnt]], context.text[:learnt]
    )
    arrays = Arrays(head, features, scale, embeddings, directions, threshold)
    details = {
        "recipe": dataclasses.asdict(recipe),
        "losses": figures,
        "seconds": round(time.perf_counter() - began, 2),
    }
    grounding = Grounding(
        Path(), source.config, encoder, size, source.energy, arrays, sentences, details
    )
    details["held_out"] = held_out_scores(grounding, held_out)
    return grounding


def goal_space(critic: Critic | None, task: Task, goals: np.ndarray) -> Embeddings | None:
    """A critic's embedding space and candidate goals. goals `[rows, goal]`: training goals."""
    if critic is None:
        return None
    candidates = candidate_goals(task)
    points = np.asarray(_embed(critic, jnp.asarray(goals)))
    scale = EmbeddingScale(jnp.asarray(points.mean(0)), jnp.asarray(points.std(0)))
    return Embeddings(scale, candidates, _embed(critic, candidates))


def familiar(sentences: list[str], text: ArrayLike) -> tuple[tuple[str, ...], Array, Array]:
    """The distinct sentences, their unit features, and the least similarity of a familiar sentence.

    The threshold is the 1 % quantile, over the training sentences, of the similarity to the nearest
    other sentence.
    """
    first = {sentence: index for index, sentence in reversed(list(enumerate(sentences)))}
    unique = tuple(sorted(first))
    features = unit(jnp.asarray(text)[np.array([first[sentence] for sentence in unique])])
    if len(unique) < 2:
        return unique, features, jnp.float32(-1)
    others = np.asarray(features @ features.T) - 2 * np.eye(len(unique))
    return unique, features, jnp.float32(np.quantile(others.max(-1), FAMILIAR_QUANTILE))


def held_out_scores(grounding: Grounding, data: Data) -> dict[str, float]:
    """Scores on the held-out examples of the training split; errors in the goal's unit."""
    task, found = grounding.task, grounding.ground(data.context)
    goal = np.asarray(data.goal)
    scores = {
        "goal_error": np.asarray(task.distance(jnp.asarray(found.goal), data.goal)).mean(),
        "right": np.asarray(is_success(task, found.goal, goal)).mean(),
        "confidence": found.confidence.mean(),
        "familiar": found.familiar.mean(),
    }
    if found.embedded_goal is not None:
        scores["right_embedded"] = np.asarray(is_success(task, found.embedded_goal, goal)).mean()
    return {name: float(value) for name, value in scores.items()}


def sharpness(embeddings: Embeddings | None, energy: Energy) -> float:
    """The factor that gives the energies between candidate goals the standard deviation SPREAD,
    for any critic."""
    if embeddings is None:
        return 1.0
    points = embeddings.points[:256]
    return SPREAD / max(float(pairwise(energy, points, points).std()), 1e-6)


@dataclass(frozen=True)
class Trainer:
    """Minimises the sum of the two losses. Frozen arrays are ordinary inputs."""

    recipe: Recipe
    features: ContextScale
    scale: GoalScale
    embeddings: Embeddings | None
    energy: Energy
    sharpness: float

    def loss(self, head: GoalHead, data: Data) -> tuple[Array, Metrics]:
        """Loss and metrics of a batch. The likelihood is in nats, with goals in the goal's unit."""
        mixture, point = head(
            self.features(data.context), self.scale, self.embeddings and self.embeddings.scale
        )
        likelihood = likelihood_loss(mixture, self.scale.part(data.goal))
        metrics = {"negative_log_likelihood": likelihood}
        if point is None or data.embedding is None:
            return likelihood, metrics
        nearest, more = nearest_loss(self.energy, point, data.embedding, data.goal, self.sharpness)
        return likelihood + nearest, metrics | {"nearest": nearest} | more

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
                head, moments = carry
                chosen = jax.random.randint(key, (recipe.batch_size,), 0, len(data.goal))
                gradient, metrics = jax.grad(self.loss, has_aux=True)(head, _rows(data, chosen))
                change, moments = optimiser.update(gradient, moments, head)
                return (optax.apply_updates(head, change), moments), metrics

            return jax.lax.scan(update, carry, keys)

        parameters: Any = head
        carry, metrics = (parameters, optimiser.init(parameters)), {}
        keys = jax.random.split(key, recipe.updates)
        for done in range(0, recipe.updates, SHOWN_EVERY):
            carry, metrics = updates(carry, data, keys[done : done + SHOWN_EVERY])
            loss = float(metrics["negative_log_likelihood"].mean())
            if not np.isfinite(loss):
                raise UserError(
                    f"the grounding diverged after {done + SHOWN_EVERY:,} updates: lower "
                    f"learning_rate = {recipe.learning_rate}."
                )
            display.advance(min(done + SHOWN_EVERY, recipe.updates), recipe.updates, loss=loss)
        figures = {f"last/{name}": float(value.mean()) for name, value in metrics.items()}
        _, metrics = jax.jit(self.loss)(carry[0], held_out)
        figures |= {f"held_out/{name}": float(value) for name, value in metrics.items()}
        return carry[0], figures


@jax.jit
def _embed(critic: Critic, goals: Array) -> Array:
    return critic.goal(goals)


def _rows(data: Any, rows: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], data)
