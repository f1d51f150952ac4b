"""Checks of sentences and pictures, with the same messages for every encoder."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from kilolayer.types import UserError

MAX_CHARACTERS = 1000
"""Longest sentence. An instruction is one line, and a longer text would be truncated silently."""


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
