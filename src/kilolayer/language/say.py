"""Interprets a sentence about a scene with a grounding."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kilolayer.deploy.listener import Heard
from kilolayer.language.base import PICTURE_SIZE, Context, Example
from kilolayer.language.board import board_of
from kilolayer.language.contexts import contexts
from kilolayer.language.grounding import Grounding
from kilolayer.language.instructions import draw_examples, foreign_words
from kilolayer.language.scenes import COLOURS, MARKER_RADIUS, draw_pictures
from kilolayer.render.marks import Mark
from kilolayer.runtime.files import shell_quoted
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task
from kilolayer.types import UserError


class Scene:
    """Markers at places of a task, drawn from a seed, and their picture.

    example: an instruction about these markers, with the goal that it means.
    """

    def __init__(self, task: Task, seed: int):
        self.task = task
        self.example: Example = draw_examples(task, "seen", 1, seed)[0]

    def picture(self) -> np.ndarray:
        """Render the scene, `[height, width, 3]`, uint8."""
        return draw_pictures(self.task, [self.example.markers])[0]

    @property
    def marks(self) -> list[Mark]:
        """The markers as `Mark`s, for larger drawings than the encoder's picture."""
        radius = MARKER_RADIUS * min(board_of(self.task).step)
        return [
            Mark(marker.colour, COLOURS[marker.colour], marker.place, radius)
            for marker in self.example.markers
        ]


class Ear:
    """A `Listener` that interprets sentences about a scene, which `rearrange` replaces.

    picture: given to the encoder instead of a drawn scene; there are no marks then.
    """

    def __init__(self, grounding: Grounding, seed: int = 0, picture: np.ndarray | None = None):
        self.grounding, self._seed, self._given = grounding, seed, picture
        self._look()

    @property
    def marks(self) -> Sequence[Mark]:
        return self.scene.marks if self._given is None else ()

    @property
    def example(self) -> str:
        return self.scene.example.sentence

    def rearrange(self) -> None:
        self._seed += 1
        self._look()

    def hear(self, sentence: str) -> Heard:
        """Interpret a sentence.

        Raises UserError for a sentence that is empty, too long or not text, that contains words of
        other tasks, or that names a colour without a mark.
        """
        context = self.context(sentence)
        require_own_words(self.grounding.task, sentence, self.example)
        if self._given is None:
            require_colours(self.marks, sentence)
        return heard(self.grounding, context)

    def context(self, sentence: str) -> Context:
        """The features of a sentence and of the picture, one row."""
        return contexts(self.grounding.encoder, [sentence], self.picture[None])

    def _look(self) -> None:
        self.scene = Scene(self.grounding.task, self._seed)
        self.picture = self.scene.picture() if self._given is None else self._given


def require_own_words(task: Task, sentence: str, example: str) -> None:
    """Raises UserError for a sentence with words that belong only to other tasks."""
    foreign = foreign_words(task, sentence)
    if foreign:
        raise UserError(
            f"the sentence speaks of another task ({', '.join(foreign)}), and there is nothing of "
            f"that in {task.name}: say where to go there, as in “{example}”."
        )


def require_colours(marks: Sequence[Mark], sentence: str) -> None:
    """Raises UserError for a sentence that names a colour without a mark.

    Such sentences do not occur in training, so a network would answer with an arbitrary place at
    high confidence.
    """
    there = [mark.name for mark in marks]
    missing = [
        word
        for word in re.findall(r"\w+", sentence.lower())
        if word in COLOURS and word not in there
    ]
    if missing:
        raise UserError(
            f"there is no {missing[0]} marker in this scene: {', '.join(there)} are there."
        )


def heard(grounding: Grounding, context: Context) -> Heard:
    """The meaning of the only row of features."""
    found = grounding.ground(context)
    nearest = grounding.nearest(context, 1)[0][0][0]
    return Heard(found.goal[0], float(found.confidence[0]), bool(found.familiar[0]), nearest)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture for `Ear` from a file; raises UserError unless it has the training size.

    Transparency, as in screenshots, is dropped.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}.") from error
    if pixels.shape != (PICTURE_SIZE, PICTURE_SIZE, 3):
        height, width = pixels.shape[:2]
        raise UserError(
            f"the picture {path} has {width} x {height} pixels, and groundings learn on "
            f"{PICTURE_SIZE} x {PICTURE_SIZE}: give one such as `kilolayer play RUN --say` writes "
            "beside its video."
        )
    return pixels


def newest(run: Path, kind: str, exists: Callable[[Path], bool], command: str) -> Path:
    """The newest directory in a run's folder `kind`, such as `groundings`.

    Raises UserError with the `command` that makes one if there is none.
    """
    found = [path for path in default_output(run, kind).glob("*") if exists(path)]
    if not found:
        raise UserError(
            f"{run} has no {kind.removesuffix('s')} yet, so nobody understands sentences: "
            f"`kilolayer {command} {shell_quoted(run)}` trains one."
        )
    return max(found, key=lambda path: path.stat().st_mtime)
