"""Checks of sentences and pictures, with the same messages for every encoder."""

from collections.abc import Sequence
from typing import Any

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
        _check_sentence(sentence)
    return list(sentences)


def _check_sentence(sentence: Any) -> None:
    if not isinstance(sentence, str):
        raise UserError(f"a sentence must be text, not {type(sentence).__name__}.")
    if not sentence.strip():
        raise UserError(
            "the sentence is empty: say where to go, as in 'go to the top left corner'."
        )
    if len(sentence) > MAX_CHARACTERS:
        raise UserError(
            f"the sentence has {len(sentence):,} characters and at most {MAX_CHARACTERS:,} are "
            "read: say it shorter."
        )
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"character {error.start + 1} of the sentence is no Unicode text: type it again, or "
            "check that the terminal speaks UTF-8."
        ) from error


def check_pictures(pictures: np.ndarray) -> np.ndarray:
    """The same pictures; raises UserError unless they are `[rows, height, width, 3]`, uint8."""
    array = np.asarray(pictures)
    way_out = ""
    if array.ndim == 3:
        way_out = "; one picture is a list of one: pictures[None]"
    elif array.ndim == 4 and array.shape[-1] in (1, 4):
        way_out = "; Pillow's convert('RGB') makes three colours of it"
    if array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise UserError(
            f"pictures of shape {array.shape} are not allowed: [rows, height, width, 3] is needed, "
            f"none of them 0{way_out}."
        )
    if array.dtype != np.uint8:
        raise UserError(
            f"pictures of type {array.dtype} are not allowed: uint8 from 0 to 255 is needed."
        )
    return array


def reads_nothing(name: str) -> UserError:
    """The error of an encoder that takes no sentences."""
    return UserError(
        f"the encoder {name} takes no sentences: pair it with one that does, as minilm+{name}."
    )


def sees_nothing(name: str) -> UserError:
    """The error of an encoder that takes no pictures."""
    return UserError(
        f"the encoder {name} takes no pictures: pair it with one that does, as {name}+ENCODER."
    )
