"""Trains the package's own encoder by contrastive learning on matching pictures and captions."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge

from kilolayer.agents.optimiser import network_optimiser
from kilolayer.errors import UserError
from kilolayer.language.base import Marker
from kilolayer.language.board import require_instructions
from kilolayer.language.captions import captions
from kilolayer.language.encoders.own import (
    BUCKETS,
    MAX_WORDS,
    PADDING,
    OwnEncoder,
    OwnNetwork,
    Sizes,
    Vocabulary,
    to_patches,
)
from kilolayer.language.instructions import draw_scene
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.words import split_words
from kilolayer.losses.contrastive import contrastive_loss
from kilolayer.runtime.files import require_unused
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.settings import Count, Positive, Settings, Share
from kilolayer.tasks.base import Task
from kilolayer.types import Array

SCENES = 2000  # each with its twin
HELD_OUT_SCENES = 256
BACKGROUND_PICTURES = 256  # their median is the background without markers
PROGRESS_EVERY = 10  # updates
PICTURES_AT_ONCE = 200
CANDIDATES = 64  # captions among which a picture must retrieve its own
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
    batch_size: Annotated[int, Ge(2)] = 128
    captions: Count = 2
    learning_rate: Positive = 4e-3
    forget: Share = 0.05
    forget_start: Share = 0.25
    warm_up: Share = 0.05


@dataclass(frozen=True)
class Pairs:
    """pictures: `[2 n, height, width, 3]`, uint8. captions: true sentences about each picture.

    Rows 2 i and 2 i + 1 are twins: the same scene with the colours of two markers exchanged. A
    batch contains both, so that a caption matches its picture only by the places of the colours.
    """

    pictures: np.ndarray
    captions: list[list[str]]


class ForegroundPatches:
    """The patches that differ from the background.

    All other patches add nothing to a pooled vector and get no gradient, but would be most of the
    work. patches: `[pictures, foreground, pixels]`, uint8, padded with background patches. indices:
    their positions in the picture, `[pictures, foreground]`.
    """

    def __init__(self, pictures: np.ndarray, background: np.ndarray):
        empty = to_patches(background)
        differ = np.stack([(to_patches(each) != empty).any(-1) for each in pictures])
        count = max(1, int(differ.sum(-1).max()))
        self.indices = np.argsort(~differ, axis=-1, kind="stable")[:, :count]
        pairs = zip(pictures, self.indices, strict=True)
        self.patches = np.stack([to_patches(picture)[indices] for picture, indices in pairs])


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


def draw_pairs(task: Task, scenes: int, seed: int, display: ProgressDisplay) -> Pairs:
    """Draw scenes of a task and their twins; raises UserError for a task without instructions."""
    generator = np.random.default_rng(seed)
    markers = []
    for _ in range(scenes):
        scene = draw_scene(task, generator)
        markers += [scene, swap_colours(scene, generator)]
    display.phase("pictures")
    pictures = []
    for start in range(0, len(markers), PICTURES_AT_ONCE):
        pictures.append(draw_pictures(task, markers[start : start + PICTURES_AT_ONCE]))
        display.advance(min(start + PICTURES_AT_ONCE, len(markers)), len(markers))
    sentences = [captions(task, each, generator) for each in markers]
    short = [[each for each in row if len(split_words(each)) <= MAX_WORDS] for row in sentences]
    return Pairs(np.concatenate(pictures), short)


def swap_colours(markers: tuple[Marker, ...], generator: np.random.Generator) -> tuple[Marker, ...]:
    """The scene with the colours of two random markers exchanged."""
    first, second = generator.choice(len(markers), 2, replace=False)
    colours = [marker.colour for marker in markers]
    colours[first], colours[second] = colours[second], colours[first]
    return tuple(Marker(colour, each.place) for colour, each in zip(colours, markers, strict=True))


def retrieval(encoder: OwnEncoder, pairs: Pairs, seed: int) -> dict[str, float]:
    """Retrieval of captions by pictures, by the cosine of pooled vectors.

    found: share of the pictures whose own caption is the nearest of CANDIDATES; the other
    candidates are one caption of the twin and captions of other scenes. found_twin: share of the
    pictures that are nearer to their own caption than to the twin's. Chance levels are 1 /
    CANDIDATES and 1 / 2. A candidate that is also true of the picture is left out.
    """
    generator = np.random.default_rng(seed)
    captions = [str(generator.choice(each)) for each in pairs.captions]
    similarity = encoder.image(pairs.pictures).pooled @ encoder.text(captions).pooled.T
    rows = np.arange(len(captions))
    true = np.array([[each in set(known) for each in captions] for known in pairs.captions])
    negative = np.where(true, -np.inf, similarity)
    twin, positive = negative[rows, rows ^ 1], similarity[rows, rows]
    random = np.stack(
        [
            negative[row, generator.choice(np.delete(rows, [row, row ^ 1]), CANDIDATES - 2)]
            for row in rows
        ]
    )
    return {
        "found": float((positive > np.maximum(twin, random.max(1))).mean()),
        "found_twin": float((positive > twin)[np.isfinite(twin)].mean()),
    }
