"""What the language room speaks of: pictures, sentences, features and goals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from kilolayer.types import Array

PICTURE_SIZE = 96
"""Pixels of a side of the square pictures that examples hold."""

Split = Literal["seen", "unseen-paraphrase", "unseen-goal", "unseen-combination"]
"""What an instruction has in common with those trained on. `seen`: wording, goal cell and
combination all were, and hardly ever this picture. Each other split withholds the one thing that it
is named after from training, and nothing else."""
SPLITS: tuple[Split, ...] = ("seen", "unseen-paraphrase", "unseen-goal", "unseen-combination")


class Features(NamedTuple):
    """What an encoder makes of sentences or pictures, float32.

    pooled: one vector of each, `[rows, dim]`. tokens: one of each word piece or patch, `[rows,
    tokens, token_dim]`, or None where the encoder tells none. mask: which of them are real, `[rows,
    tokens]` booleans; None if all are.
    """

    pooled: np.ndarray
    tokens: np.ndarray | None = None
    mask: np.ndarray | None = None


class Encoder(Protocol):
    """A pretrained network that never changes: no gradient, no update, no noise.

    name: what the user calls it, and what opens it again. A half that it does not have raises
    UserError: `reads` says whether it takes sentences and `sees` whether it takes pictures.
    """

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> bool: ...
    @property
    def sees(self) -> bool: ...

    def fingerprint(self) -> str:
        """SHA-256 of all parameters as they are now, and of all else that features depend on."""
        ...

    def text(self, sentences: Sequence[str]) -> Features: ...

    def image(self, pictures: np.ndarray) -> Features:
        """Of pictures `[rows, height, width, 3]`, uint8."""
        ...


@dataclass(frozen=True)
class Marker:
    """A coloured disc that lies where a goal can be: `place` is its x, y in the goal's unit."""

    colour: str
    place: tuple[float, float]


@dataclass(frozen=True)
class Example:
    """A picture, an instruction and the goal that is meant.

    markers: what the picture shows beside the task's own start. goal: one number per goal
    coordinate of the task. kind: `absolute` (a place by its name), `marker` (by the colour of what
    lies there) or `relative` (beside a marker). template: which wording. combination: what of two
    things is put together, such as `left of, red`, for the split that withholds some.
    """

    sentence: str
    markers: tuple[Marker, ...]
    goal: tuple[float, ...]
    kind: Literal["absolute", "marker", "relative"]
    template: str
    combination: str
    split: Split


class Context(NamedTuple):
    """The frozen features of instructions and their pictures, as networks take them.

    text: `[rows, text_dim]`. patches: `[rows, patches, patch_dim]`; an encoder without tokens gives
    its pooled vector as the only patch.
    """

    text: Array
    patches: Array
