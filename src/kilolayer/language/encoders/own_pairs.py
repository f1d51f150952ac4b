"""Pictures and sentences that belong together, and how well an encoder finds out."""

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

DRAWN_AT_ONCE = 200  # pictures, between two signs of progress
CANDIDATES = 64  # captions from which a picture must find its own


@dataclass(frozen=True)
class Pairs:
    """pictures: `[2 n, height, width, 3]`, uint8. captions: the sentences known to be true of each.

    Rows 2 i and 2 i + 1 are twins: the same scene, with the colours of its markers exchanged. A
    batch holds both, so that a caption can only find its picture by what lies where.
    """

    pictures: np.ndarray
    captions: list[list[str]]


class Shown:
    """The patches that differ from the ground: the others add nothing to a pooled vector and get
    no gradient from it, and are most of a picture and of the work.

    patches: `[pictures, shown, pixels]`, uint8, filled up with patches of the ground. places: which
    of the picture's patches they are, `[pictures, shown]`.
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
    """Scenes of a task with their twins; raises UserError for a task without instructions."""
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
    """The scene with the colours of two of its markers exchanged."""
    first, second = generator.choice(len(markers), 2, replace=False)
    colours = [marker.colour for marker in markers]
    colours[first], colours[second] = colours[second], colours[first]
    return tuple(
        Marker(colour, marker.place) for colour, marker in zip(colours, markers, strict=True)
    )


def retrieval(encoder: OwnEncoder, pairs: Pairs, seed: int) -> dict[str, float]:
    """How well pictures find their captions by the cosine of pooled vectors.

    found: share of the pictures whose caption is nearest of CANDIDATES, of which one is a
    caption of its twin and the others of other scenes. found twin: share that lies nearer to its
    own caption than to its twin's. By chance they are 1 / CANDIDATES and 1 / 2. A candidate that
    is known to be true of the picture as well is left out.
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
