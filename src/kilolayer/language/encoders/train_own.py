"""Trains the package's own encoder by contrastive learning on matching pictures and captions."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.language.board import require_instructions
from kilolayer.language.encoders.own import OwnEncoder, Vocabulary
from kilolayer.language.encoders.own_network import BUCKETS, PADDING, OwnNetwork, Sizes
from kilolayer.language.encoders.own_pairs import (
    CANDIDATES,
    ForegroundPatches,
    Pairs,
    draw_pairs,
    retrieval,
)
from kilolayer.losses.contrastive import contrastive_loss
from kilolayer.runtime.files import require_unused
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.settings import Count, Settings
from kilolayer.tasks.base import Task
from kilolayer.types import Array, UserError

SCENES = 2000  # each with its twin
HELD_OUT_SCENES = 256
BACKGROUND_PICTURES = 256  # their median is the background without markers
PROGRESS_EVERY = 10  # updates
MAX_START = 5  # words
INITIAL_SCALE = (
    10.0  # initial scale of cosines in the loss; learned (arXiv 2103.00020, section 2.5)
)


@dataclass(frozen=True)
class Recipe(Settings):
    """Settings of the training.

    batch_size: pictures per update, including twins. captions: per picture and update. forget:
    share of the words that are replaced by an unknown word. forget_start: share of the captions
    whose first few words are replaced; instructions start with verbs that no caption has, and this
    makes the encoder robust to them. warm_up: share of the updates over which the learning rate
    rises; a cosine schedule lowers it to zero.
    """

    updates: Count = 600
    batch_size: int = 128
    captions: int = 2
    learning_rate: float = 4e-3
    forget: float = 0.05
    forget_start: float = 0.25
    warm_up: float = 0.05


class Parameters(eqx.Module):
    """The trained parameters: the network and the log scale of cosines in the loss."""

    network: OwnNetwork
    log_scale: Array


class Batch(NamedTuple):
    """patches `[pictures, foreground, pixels]` at `indices [pictures, foreground]`: see
    `ForegroundPatches`. ids: token ids of several captions per picture, `[captions, pictures,
    words]`."""

    patches: Array
    indices: Array
    ids: Array


def loss(parameters: Parameters, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """Symmetric InfoNCE of pooled vectors (arXiv 2103.00020), and metrics."""
    network, ids = parameters.network, batch.ids
    pictures = network.picture.pool_foreground(batch.patches, batch.indices)
    _, sentences = network.sentence(ids.reshape(-1, ids.shape[-1]))
    sentences = sentences.reshape(*ids.shape[:-1], -1)
    scale = jnp.exp(parameters.log_scale) / pictures.shape[-1]
    logits = scale * jnp.einsum("csd,pd->csp", sentences, pictures)
    losses, metrics = jax.vmap(lambda each: contrastive_loss("symmetric", each, 0.0))(logits)
    return losses.mean(), {"loss": losses.mean(), "found": metrics["accuracy"].mean()}


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
    require_instructions(task)
    out, recipe, sizes = Path(out), Recipe(updates), Sizes()
    require_unused(out)
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
        f"{score['found']:.0%} of held-out pictures retrieve their caption among {CANDIDATES}, "
        f"{score['found_twin']:.0%} distinguish it from one with two colours exchanged."
    )
    return encoder.save(out)


def fit(
    pairs: Pairs, recipe: Recipe, sizes: Sizes, seed: int, display: ProgressDisplay
) -> tuple[OwnNetwork, Vocabulary]:
    """Train on these pairs. The same seed gives the same bits.

    Raises UserError if the training diverges.
    """
    vocabulary = Vocabulary.of(each for captions in pairs.captions for each in captions)
    background = np.median(pairs.pictures[:BACKGROUND_PICTURES], axis=0).astype(np.uint8)
    network = OwnNetwork.init(jax.random.key(seed), sizes, len(vocabulary.words))
    parameters: Any = Parameters(network.with_background(background), jnp.log(INITIAL_SCALE))
    optimiser = network_optimiser(_learning_rate(recipe))
    state = optimiser.init(parameters)

    @jax.jit
    def update(parameters: Any, state: Any, batch: Batch) -> tuple:
        gradient, metrics = jax.grad(loss, has_aux=True)(parameters, batch)
        change, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, change), state, metrics

    patches = ForegroundPatches(pairs.pictures, background)
    batches = _batches(patches, pairs.captions, vocabulary, recipe, np.random.default_rng(seed))
    display.phase("encoder")
    for done in range(1, recipe.updates + 1):
        parameters, state, metrics = update(parameters, state, next(batches))
        if done % PROGRESS_EVERY == 0 or done == recipe.updates:
            values = {name: float(value) for name, value in metrics.items()}
            if not np.isfinite(values["loss"]):
                raise UserError(
                    f"the encoder diverged within {done:,} updates: lower learning_rate = "
                    f"{recipe.learning_rate}."
                )
            display.advance(done, recipe.updates, **values)
    return parameters.network, vocabulary


def _learning_rate(recipe: Recipe) -> optax.Schedule:
    def rate(done: Any) -> Any:
        rising = jnp.minimum(1.0, (done + 1) / (recipe.warm_up * recipe.updates))
        falling = 0.5 * (1 + jnp.cos(jnp.pi * done / recipe.updates))
        return recipe.learning_rate * rising * falling

    return rate


def _batches(
    patches: ForegroundPatches,
    captions: list[list[str]],
    vocabulary: Vocabulary,
    recipe: Recipe,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """Endless batches of twins with several captions per picture and some words replaced."""
    encoded = [vocabulary.encode(each) for each in captions]
    # Drop columns that are padding in every caption, to save time.
    length = max(int((each != PADDING).sum(1).max()) for each in encoded)
    scenes = len(captions) // 2
    while True:
        count = min(recipe.batch_size // 2, scenes)
        first = 2 * generator.choice(scenes, count, replace=False)
        rows = np.stack([first, first + 1], 1).reshape(-1)
        drawn = [generator.choice(encoded[row], recipe.captions) for row in rows]
        ids = np.stack(drawn, axis=1)[..., :length]
        starts = generator.integers(1, MAX_START + 1, ids.shape[:2])
        starts *= generator.random(starts.shape) < recipe.forget_start
        replaced = generator.random(ids.shape) < recipe.forget
        replaced |= np.arange(ids.shape[-1]) < starts[..., None]
        replaced &= ids != PADDING
        unknown = generator.integers(1, 1 + BUCKETS, ids.shape)
        ids = np.where(replaced, unknown, ids).astype(np.int32)
        yield Batch(*map(jnp.asarray, (patches.patches[rows], patches.indices[rows], ids)))
