"""Matching pictures and captions, and an encoder's retrieval score on them."""

from dataclasses import dataclass

import numpy as np

from kilolayer.language.base import Marker
from kilolayer.language.captions import captions
from kilolayer.language.encoders.own import OwnEncoder
from kilolayer.language.encoders.own_network import MAX_WORDS, to_patches
from kilolayer.language.instructions import draw_scene
from kilolayer.language.scenes import draw_pictures
from kilolayer.language.words import split_words
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task

PROGRESS_EVERY = 200  # pictures
CANDIDATES = 64  # captions among which a picture must retrieve its own


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


def draw_pairs(task: Task, scenes: int, seed: int, display: ProgressDisplay) -> Pairs:
    """Draw scenes of a task and their twins; raises UserError for a task without instructions."""
    generator = np.random.default_rng(seed)
    markers = []
    for _ in range(scenes):
        scene = draw_scene(task, generator)
        markers += [scene, swap_colours(scene, generator)]
    display.phase("pictures")
    pictures = []
    for start in range(0, len(markers), PROGRESS_EVERY):
        pictures.append(draw_pictures(task, markers[start : start + PROGRESS_EVERY]))
        display.advance(min(start + PROGRESS_EVERY, len(markers)), len(markers))
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
