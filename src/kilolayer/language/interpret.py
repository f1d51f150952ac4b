"""Interprets a sentence about a scene with a grounding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kilolayer.deploy.interpreter import Interpretation
from kilolayer.errors import UserError
from kilolayer.language.base import PICTURE_SIZE, Example
from kilolayer.language.board import board_of
from kilolayer.language.contexts import encode_context
from kilolayer.language.grounding import Grounding, is_grounding
from kilolayer.language.instructions import draw_examples
from kilolayer.language.scenes import COLOURS, MARKER_RADIUS, draw_pictures
from kilolayer.language.words import foreign_words, split_words
from kilolayer.render.style import Mark
from kilolayer.runtime.files import shell_quoted
from kilolayer.runtime.zoo import default_output
from kilolayer.tasks.base import Task


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


class SceneInterpreter:
    """An `Interpreter` that interprets sentences about a scene, which `rearrange` replaces.

    picture: given to the encoder instead of a drawn scene; there are no marks then.
    """

    def __init__(self, grounding: Grounding, seed: int = 0, picture: np.ndarray | None = None):
        self.grounding, self._seed, self._given_picture = grounding, seed, picture
        self._draw_scene()

    @property
    def marks(self) -> Sequence[Mark]:
        return self.scene.marks if self._given_picture is None else ()

    @property
    def example(self) -> str:
        return self.scene.example.sentence

    def rearrange(self) -> None:
        self._seed += 1
        self._draw_scene()

    def interpret(self, sentence: str) -> Interpretation:
        """Interpret a sentence.

        Raises UserError for a sentence that is empty, too long or not text, that contains words of
        other tasks, or that names a colour without a mark.
        """
        context = encode_context(self.grounding.encoder, [sentence], self.picture[None])
        task = self.grounding.task
        foreign = foreign_words(task, sentence)
        if foreign:
            raise UserError(
                f"the sentence has words of another task ({', '.join(foreign)}), which do not "
                f"occur in {task.name}: name a place there, as in “{self.example}”."
            )
        if self._given_picture is None:
            # Such sentences do not occur in training, so a network would answer with an arbitrary
            # place at high confidence.
            visible = [mark.name for mark in self.marks]
            for word in split_words(sentence):
                if word in COLOURS and word not in visible:
                    raise UserError(
                        f"there is no {word} marker in this scene: its markers are "
                        f"{', '.join(visible)}."
                    )
        prediction = self.grounding.predict(context)
        nearest = self.grounding.nearest_sentences(context, 1)[0][0][0]
        confidence, familiar = float(prediction.confidence[0]), bool(prediction.familiar[0])
        return Interpretation(prediction.goal[0], confidence, familiar, nearest)

    def _draw_scene(self) -> None:
        self.scene = Scene(self.grounding.task, self._seed)
        given = self._given_picture
        self.picture = self.scene.picture() if given is None else given


def read_picture(path: Path) -> np.ndarray:
    """Read a picture for `SceneInterpreter` from a file; raises UserError unless it has the
    training size.

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
            f"the picture {path} has {width} x {height} pixels, and groundings are trained on "
            f"{PICTURE_SIZE} x {PICTURE_SIZE}: use one like the picture that `kilolayer play RUN "
            "--say` writes beside its video."
        )
    return pixels


def newest_grounding(run: Path) -> Path:
    """The newest grounding of a run; raises UserError if there is none."""
    found = [path for path in default_output(run, "groundings").glob("*") if is_grounding(path)]
    if not found:
        raise UserError(
            f"{run} has no grounding yet, which sentences need: "
            f"`kilolayer ground {shell_quoted(run)}` trains one."
        )
    return max(found, key=lambda path: path.stat().st_mtime)
