"""Trains the package's own encoder by contrastive learning on matching pictures and captions."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.language.board import require_words
from kilolayer.language.encoders.own import OwnEncoder, Vocabulary
from kilolayer.language.encoders.own_network import BUCKETS, PADDING, OwnNetwork, Sizes
from kilolayer.language.encoders.own_pairs import (
    CANDIDATES,
    Pairs,
    Shown,
    draw_pairs,
    retrieval,
)
from kilolayer.losses.contrastive import contrastive_loss
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task
from kilolayer.types import Array, UserError, bad_field

SCENES = 2000  # each with its twin
HELD_OUT_SCENES = 256
GROUND_FROM = 256  # pictures whose median is the ground without markers
SHOW_EVERY = 10  # updates
LONGEST_START = 5  # words
FIRST_SCALE = 10.0  # initial scale of cosines in the loss; learned (arXiv 2103.00020, section 2.5)


@dataclass(frozen=True)
class Recipe:
    """Settings of the training.

    batch_size: pictures per update, including twins. captions: per picture and update. forget:
    share of the words that are replaced by an unknown word. forget_start: share of the captions
    whose first few words are replaced; instructions start with verbs that no caption has, and this
    makes the encoder robust to them. warm_up: share of the updates over which the learning rate
    rises; a cosine schedule lowers it to zero.
    """

    updates: int = 600
    batch_size: int = 128
    captions: int = 2
    learning_rate: float = 4e-3
    forget: float = 0.05
    forget_start: float = 0.25
    warm_up: float = 0.05


class Learner(eqx.Module):
    """The trained parameters: the network and the log scale of cosines in the loss."""

    network: OwnNetwork
    log_scale: Array

    @staticmethod
    def init(network: OwnNetwork) -> "Learner":
        return Learner(network, jnp.log(FIRST_SCALE))


class Batch(NamedTuple):
    """patches `[pictures, shown, pixels]` at `places [pictures, shown]`: see `Shown`. words:
    `[captions, pictures, words]`, several captions per picture."""

    patches: Array
    places: Array
    words: Array


def loss(learner: Learner, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """Symmetric InfoNCE of pooled vectors (arXiv 2103.00020), and metrics."""
    words = batch.words
    of_pictures = learner.network.picture.pooled_of(batch.patches, batch.places)
    _, of_sentences = learner.network.sentence(words.reshape(-1, words.shape[-1]))
    of_sentences = of_sentences.reshape(*words.shape[:-1], -1)
    scale = jnp.exp(learner.log_scale) / of_pictures.shape[-1]
    logits = scale * jnp.einsum("csd,pd->csp", of_sentences, of_pictures)
    losses, figures = jax.vmap(lambda each: contrastive_loss("symmetric", each, 0.0))(logits)
    return losses.mean(), {"loss": losses.mean(), "found": figures["accuracy"].mean()}


def train_own(
    task: Task,
    out: str | Path,
    updates: int = Recipe.updates,
    seed: int = 0,
    *,
    display: ProgressDisplay,
) -> OwnEncoder:
    """Train an encoder on pictures of one task and captions, and write it to `out`.

    Its details contain the retrieval score on held-out pictures. The same seed gives the same bits.
    Raises UserError for a task without instructions, if `out` exists, or if the training diverges.
    """
    require_words(task)
    out, recipe, sizes = Path(out), Recipe(updates), Sizes()
    if updates < 1:
        raise bad_field("updates", updates, "it must be at least 1", 1)
    if out.exists():
        raise bad_field("out", str(out), "it exists already, choose another")
    training, held_out = (
        draw_pairs(task, scenes, each, display)
        for scenes, each in ((SCENES, 2 * seed), (HELD_OUT_SCENES, 2 * seed + 1))
    )
    network, vocabulary = fit(training, recipe, sizes, seed, display)
    encoder = OwnEncoder(str(out), network, vocabulary, sizes)
    score = retrieval(encoder, held_out, seed)
    encoder.details = {
        "task": task.name,
        "seed": seed,
        "recipe": asdict(recipe),
        "scenes": SCENES,
        "score": score,
    }
    display.note(
        f"{score['found']:.0%} of new pictures find their caption among {CANDIDATES}, "
        f"{score['found_twin']:.0%} tell it from one with two colours exchanged."
    )
    return encoder.save(out)


def fit(
    pairs: Pairs, recipe: Recipe, sizes: Sizes, seed: int, display: ProgressDisplay
) -> tuple[OwnNetwork, Vocabulary]:
    """Train on these pairs. The same seed gives the same bits.

    Raises UserError if the training diverges.
    """
    vocabulary = Vocabulary.of(each for captions in pairs.captions for each in captions)
    ground = np.median(pairs.pictures[:GROUND_FROM], axis=0).astype(np.uint8)
    network = OwnNetwork.init(jax.random.key(seed), sizes, len(vocabulary.words))
    learner: Any = Learner.init(network.on_ground(ground))
    optimiser = network_optimiser(_learning_rate(recipe))
    moments = optimiser.init(learner)
    shown = Shown(pairs.pictures, ground)
    batches = _Batches(shown, pairs.captions, vocabulary, recipe, np.random.default_rng(seed))
    update = _updater(optimiser)
    display.phase("encoder")
    for done in range(1, recipe.updates + 1):
        learner, moments, figures = update(learner, moments, batches.draw())
        if done % SHOW_EVERY == 0 or done == recipe.updates:
            values = {name: float(value) for name, value in figures.items()}
            if not np.isfinite(values["loss"]):
                raise UserError(
                    f"the encoder diverged within {done:,} updates: lower learning_rate = "
                    f"{recipe.learning_rate}."
                )
            display.advance(done, recipe.updates, **values)
    return learner.network, vocabulary


def _learning_rate(recipe: Recipe) -> optax.Schedule:
    def rate(done: Any) -> Any:
        rising = jnp.minimum(1.0, (done + 1) / (recipe.warm_up * recipe.updates))
        falling = 0.5 * (1 + jnp.cos(jnp.pi * done / recipe.updates))
        return recipe.learning_rate * rising * falling

    return rate


def _updater(optimiser: optax.GradientTransformation) -> Callable:
    @jax.jit
    def update(learner: Any, moments: Any, batch: Batch) -> tuple:
        gradient, figures = jax.grad(loss, has_aux=True)(learner, batch)
        change, moments = optimiser.update(gradient, moments, learner)
        return optax.apply_updates(learner, change), moments, figures

    return update


class _Batches:
    """Draws batches of twins with several captions per picture and some words replaced."""

    def __init__(
        self,
        shown: Shown,
        captions: list[list[str]],
        vocabulary: Vocabulary,
        recipe: Recipe,
        generator: np.random.Generator,
    ):
        self._shown, self._recipe, self._generator = shown, recipe, generator
        self._words = [vocabulary.numbers(each) for each in captions]
        # Drop columns that are padding in every caption, to save time.
        self._longest = max(int((each != PADDING).sum(1).max()) for each in self._words)

    def draw(self) -> Batch:
        generator, recipe = self._generator, self._recipe
        scenes = len(self._words) // 2
        count = min(recipe.batch_size // 2, scenes)
        first = 2 * generator.choice(scenes, count, replace=False)
        rows = np.stack([first, first + 1], 1).reshape(-1)
        words = np.stack(
            [generator.choice(self._words[row], recipe.captions) for row in rows], axis=1
        )[..., : self._longest]
        starts = generator.integers(1, LONGEST_START + 1, words.shape[:2])
        starts *= generator.random(starts.shape) < recipe.forget_start
        forgotten = generator.random(words.shape) < recipe.forget
        forgotten |= np.arange(words.shape[-1]) < starts[..., None]
        forgotten &= words != PADDING
        unknown = generator.integers(1, 1 + BUCKETS, words.shape)
        words = np.where(forgotten, unknown, words).astype(np.int32)
        return Batch(
            *map(jnp.asarray, (self._shown.patches[rows], self._shown.places[rows], words))
        )
