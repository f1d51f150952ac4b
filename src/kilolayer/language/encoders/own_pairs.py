"""Matching pictures and captions, and an encoder's retrieval score on them."""

from dataclasses import dataclass

import numpy as np

from kilolayer.language.base import Marker
from kilolayer.language.captions import captions
from kilolayer.language.encoders.own import OwnEncoder, split
from kilolayer.language.encoders.own_network import MAX_WORDS, to_patches
from kilolayer.language.instructions import draw_scene
from kilolayer.language.scenes import draw_pictures
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.tasks.base import Task

DRAWN_AT_ONCE = 200  # pictures drawn between two progress reports
CANDIDATES = 64  # captions among which a picture must find its own


@dataclass(frozen=True)
class Pairs:
    """pictures: `[2 n, height, width, 3]`, uint8. captions: true sentences about each picture.

    Rows 2 i and 2 i + 1 are twins: the same scene with the colours of two markers exchanged. A
    batch contains both, so that a caption matches its picture only by the places of the colours.
    """

    pictures: np.ndarray
    captions: list[list[str]]


class Shown:
    """The patches that differ from the ground.

    All other patches add nothing to a pooled vector and get no gradient, but would be most of the
    work. patches: `[pictures, shown, pixels]`, uint8, padded with patches of the ground. places:
    their indices in the picture, `[pictures, shown]`.
    """

    def __init__(self, pictures: np.ndarray, ground: np.ndarray):
        differ = np.stack([(to_patches(each) != to_patches(ground)).any(-1) for each in pictures])
        most = max(1, int(differ.sum(-1).max()))
        self.places = np.argsort(~differ, axis=-1, kind="stable")[:, :most]
        self.patches = np.stack(
            [
                to_patches(picture)[places]
                for picture, places in zip(pictures, self.places, strict=True)
            ]
        )


def draw_pairs(task: Task, scenes: int, seed: int, display: ProgressDisplay) -> Pairs:
    """Draw scenes of a task and their twins; raises UserError for a task without instructions."""
    generator = np.random.default_rng(seed)
    markers = []
    for _ in range(scenes):
        scene = draw_scene(task, generator)
        markers += [scene, exchanged(scene, generator)]
    display.phase("pictures")
    pictures = []
    for start in range(0, len(markers), DRAWN_AT_ONCE):
        pictures.append(draw_pictures(task, markers[start : start + DRAWN_AT_ONCE]))
        display.advance(min(start + DRAWN_AT_ONCE, len(markers)), len(markers))
    said = [captions(task, each, generator) for each in markers]
    short = [[each for each in row if len(split(each)) <= MAX_WORDS] for row in said]
    return Pairs(np.concatenate(pictures), short)


def exchanged(markers: tuple[Marker, ...], generator: np.random.Generator) -> tuple[Marker, ...]:
    """The scene with the colours of two random markers exchanged."""
    first, second = generator.choice(len(markers), 2, replace=False)
    colours = [marker.colour for marker in markers]
    colours[first], colours[second] = colours[second], colours[first]
    return tuple(
        Marker(colour, marker.place) for colour, marker in zip(colours, markers, strict=True)
    )


def retrieval(encoder: OwnEncoder, pairs: Pairs, seed: int) -> dict[str, float]:
    """Retrieval of captions by pictures, by the cosine of pooled vectors.

    found: share of the pictures whose own caption is the nearest of CANDIDATES; the other
    candidates are one caption of the twin and captions of other scenes. found_twin: share of the
    pictures that are nearer to their own caption than to the twin's. Chance levels are 1 /
    CANDIDATES and 1 / 2. A candidate that is also true of the picture is left out.
    """
    generator = np.random.default_rng(seed)
    captions = [str(generator.choice(each)) for each in pairs.captions]
    of_picture = encoder.image(pairs.pictures).pooled
    of_caption = encoder.text(captions).pooled
    agreement = of_picture @ of_caption.T
    rows = np.arange(len(captions))
    true = np.array([[each in set(known) for each in captions] for known in pairs.captions])
    wrong = np.where(true, -np.inf, agreement)
    twin = wrong[rows, rows ^ 1]
    own = agreement[rows, rows]
    others = np.stack(
        [
            wrong[row, generator.choice(np.delete(rows, [row, row ^ 1]), CANDIDATES - 2)]
            for row in rows
        ]
    )
    hard = np.isfinite(twin)
    return {
        "found": float((own > np.maximum(twin, others.max(1))).mean()),
        "found_twin": float((own > twin)[hard].mean()),
    }
