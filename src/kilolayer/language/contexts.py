"""Features of instructions and pictures, as input of the networks."""

from collections.abc import Callable, Hashable, Sequence
from hashlib import sha256

import numpy as np

from kilolayer.errors import UserError
from kilolayer.language.base import Context, Encoder, Example, check_pictures, check_sentences
from kilolayer.language.scenes import draw_pictures
from kilolayer.runtime.progress import ProgressDisplay, SilentDisplay
from kilolayer.tasks.base import Task

CHUNK = 64
"""Rows per call of an encoder. Bounds its memory and sets the steps of the progress display."""


def encode_examples(
    task: Task,
    encoder: Encoder,
    examples: Sequence[Example],
    display: ProgressDisplay | None = None,
) -> Context:
    """Features of the examples' sentences and of their pictures, which are drawn first."""
    pictures = draw_pictures(task, [example.markers for example in examples])
    return encode_context(encoder, [example.sentence for example in examples], pictures, display)


def encode_context(
    encoder: Encoder,
    sentences: Sequence[str],
    pictures: np.ndarray,
    display: ProgressDisplay | None = None,
) -> Context:
    """Features of each sentence and of the picture in the same row, numpy float32.

    pictures: `[rows, height, width, 3]`, uint8. Equal sentences and equal pictures are encoded
    once. Raises UserError for invalid sentences or pictures, for different numbers of them, and for
    an encoder that lacks a half.
    """
    sentences, pictures = check_sentences(sentences), check_pictures(pictures)
    if len(sentences) != len(pictures):
        raise UserError(f"{len(sentences)} sentences do not go with {len(pictures)} pictures.")
    display = display or SilentDisplay()
    display.phase("pictures")
    contents = [sha256(picture.tobytes()).digest() for picture in pictures]

    def encode_pictures(rows: list[int]) -> np.ndarray:
        features = encoder.image(pictures[rows])
        return features.pooled[:, None] if features.tokens is None else features.tokens

    patches = _encode_once(contents, encode_pictures, display)
    display.phase("sentences")
    text = _encode_once(
        sentences, lambda rows: encoder.text([sentences[row] for row in rows]).pooled, display
    )
    return Context(text=text, patches=patches)  # pyright: ignore[reportArgumentType]


def _encode_once(
    contents: Sequence[Hashable],
    encode: Callable[[list[int]], np.ndarray],
    display: ProgressDisplay,
) -> np.ndarray:
    """One row of features per entry of `contents`; `encode` gets only the first of equal rows."""
    first: dict[Hashable, int] = {}
    for row, content in enumerate(contents):
        first.setdefault(content, row)
    rows, index = list(first.values()), {content: number for number, content in enumerate(first)}
    parts = []
    for start in range(0, len(rows), CHUNK):
        parts.append(encode(rows[start : start + CHUNK]))
        display.advance(min(start + CHUNK, len(rows)), len(rows))
    return np.concatenate(parts)[[index[content] for content in contents]]
