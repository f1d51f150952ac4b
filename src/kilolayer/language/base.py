"""Shared types of the language package: examples, encoders, their features and their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np

from kilolayer.errors import UserError
from kilolayer.types import Array

PICTURE_SIZE = 96
"""Side of the examples' square pictures, in pixels."""
MAX_CHARACTERS = 1000
"""Longest sentence. An instruction is one line, and a longer text would be truncated silently."""

Split = Literal["seen", "unseen-paraphrase", "unseen-goal", "unseen-combination"]
"""How an instruction differs from the training instructions. `seen`: wording, goal cell and
combination occur in training, but the picture hardly ever does. In each other split, exactly the
part in its name was withheld from training."""
SPLITS: tuple[Split, ...] = get_args(Split)

Kind = Literal["absolute", "marker", "relative"]
"""What an instruction names: a place, the colour of a marker, or a place beside or between
markers."""


class Features(NamedTuple):
    """An encoder's output for sentences or pictures, float32.

    pooled: one vector per row, `[rows, dim]`. tokens: one vector per word piece or patch, `[rows,
    tokens, token_dim]`, or None if the encoder has no tokens. mask: which tokens are real, `[rows,
    tokens]` booleans; None if all are.
    """

    pooled: np.ndarray
    tokens: np.ndarray | None = None
    mask: np.ndarray | None = None


class Encoder(Protocol):
    """A frozen pretrained network: no gradient, no update, no noise.

    name: the user's name for it, which also opens it again. encodes_text, encodes_images: whether
    it takes sentences and pictures. The method of a missing half raises UserError.
    """

    @property
    def name(self) -> str: ...
    @property
    def encodes_text(self) -> bool: ...
    @property
    def encodes_images(self) -> bool: ...

    def fingerprint(self) -> str:
        """SHA-256 of the current parameters and of everything else that determines features."""
        ...

    def text(self, sentences: Sequence[str]) -> Features: ...

    def image(self, pictures: np.ndarray) -> Features:
        """Features of pictures `[rows, height, width, 3]`, uint8."""
        ...


@dataclass(frozen=True)
class Marker:
    """A coloured disc at a possible goal. place: its x, y in the goal's unit."""

    colour: str
    place: tuple[float, float]


@dataclass(frozen=True)
class Example:
    """A picture, an instruction and the goal that it means.

    markers: shown in the picture in addition to the task's start. goal: one number per goal
    coordinate of the task. template: the wording. combination: the combined parts, such as `left
    of, red`, for the split that withholds some combinations.
    """

    sentence: str
    markers: tuple[Marker, ...]
    goal: tuple[float, ...]
    kind: Kind
    template: str
    combination: str
    split: Split


class Context(NamedTuple):
    """The frozen features of instructions and their pictures, as input of the networks.

    text: `[rows, text_dim]`. patches: `[rows, patches, patch_dim]`; for an encoder without tokens
    the pooled vector is the only patch.
    """

    text: Array
    patches: Array


def check_sentences(sentences: Sequence[str]) -> list[str]:
    """The sentences as a list; raises UserError for one that is empty, too long or not text."""
    if isinstance(sentences, str) or not len(sentences):
        raise UserError(
            f"sentences = {sentences!r} is not allowed: a list of at least one sentence is needed."
        )
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise UserError(f"a sentence must be text, not {type(sentence).__name__}.")
        if not sentence.strip():
            raise UserError(
                "the sentence is empty: name a goal, as in 'go to the top left corner'."
            )
        if len(sentence) > MAX_CHARACTERS:
            raise UserError(
                f"the sentence has {len(sentence):,} characters and at most {MAX_CHARACTERS:,} "
                "are read: write a shorter one."
            )
        try:
            sentence.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"character {error.start + 1} of the sentence is not valid Unicode: type it "
                "again, or check that the terminal uses UTF-8."
            ) from error
    return list(sentences)


def check_pictures(pictures: np.ndarray) -> np.ndarray:
    """The same pictures; raises UserError unless they are `[rows, height, width, 3]`, uint8."""
    array = np.asarray(pictures)
    advice = ""
    if array.ndim == 3:
        advice = "; make a batch of one picture with pictures[None]"
    elif array.ndim == 4 and array.shape[-1] in (1, 4):
        advice = "; convert to three colours with Pillow's convert('RGB')"
    if array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise UserError(
            f"pictures of shape {array.shape} are not allowed: [rows, height, width, 3] is needed, "
            f"none of them 0{advice}."
        )
    if array.dtype != np.uint8:
        raise UserError(
            f"pictures of type {array.dtype} are not allowed: uint8 from 0 to 255 is needed."
        )
    return array


def unsupported_input(name: str, kind: Literal["sentences", "pictures"]) -> UserError:
    """The error of an encoder that does not take this kind of input."""
    pair = f"minilm+{name}" if kind == "sentences" else f"{name}+ENCODER"
    return UserError(f"the encoder {name} takes no {kind}: pair it with one that does, as {pair}.")
