"""The package's own small encoder of pictures and sentences, for machines without hub access.

`kilolayer.language.encoders.train_own` trains one.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.language.base import PICTURE_SIZE, Features
from kilolayer.language.encoders.checks import check_pictures, check_sentences
from kilolayer.language.encoders.own_network import (
    BUCKETS,
    MAX_WORDS,
    PADDING,
    OwnNetwork,
    Sizes,
)
from kilolayer.language.words import split_words
from kilolayer.runtime.tensors import TensorDirectory, fingerprint
from kilolayer.types import Array, UserError

DIRECTORY = TensorDirectory("encoder", 1)
BATCH_SIZES = (1, 64)  # a batch is padded to the next of them, so that two programs are compiled


class Vocabulary:
    """Token ids of words: 0 is padding, then the buckets of unknown words, then the known words."""

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self._ids = {word: 1 + BUCKETS + index for index, word in enumerate(self.words)}

    @staticmethod
    def of(sentences: Iterable[str]) -> "Vocabulary":
        """The vocabulary of all words of these sentences, in alphabetical order."""
        return Vocabulary(sorted({word for each in sentences for word in split_words(each)}))

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Token ids `[sentences, MAX_WORDS]`, int32. An empty sentence gets one unknown word."""
        rows = np.full((len(sentences), MAX_WORDS), PADDING, np.int32)
        for row, sentence in zip(rows, sentences, strict=True):
            words = split_words(sentence)[:MAX_WORDS] or [""]
            # A checksum, because `hash` differs between processes.
            row[: len(words)] = [
                self._ids.get(word) or 1 + zlib.crc32(word.encode()) % BUCKETS for word in words
            ]
        return rows


@dataclass(eq=False)
class OwnEncoder:
    """An `Encoder` for sentences and pictures.

    name: the directory that it was opened from. details: facts about its training and its score.
    """

    name: str
    network: OwnNetwork
    vocabulary: Vocabulary
    sizes: Sizes
    details: dict[str, Any] = field(default_factory=dict)
    encodes_text = encodes_images = True

    def fingerprint(self) -> str:
        """SHA-256 of the parameters, the sizes and the vocabulary."""
        text = repr((self.sizes, self.vocabulary.words)).encode()
        return fingerprint((self.network, np.frombuffer(text, np.uint8)))

    def text(self, sentences: Sequence[str]) -> Features:
        """Features of sentences. Words beyond the first MAX_WORDS are ignored.

        Raises UserError for invalid sentences.
        """
        ids = self.vocabulary.encode(check_sentences(sentences))
        tokens, pooled = _in_batches(self.network.sentence, ids)
        return Features(pooled, tokens, ids != PADDING)

    def image(self, pictures: np.ndarray) -> Features:
        """Features of pictures `[rows, PICTURE_SIZE, PICTURE_SIZE, 3]`, uint8; raises UserError for
        other arrays."""
        check_pictures(pictures)
        if pictures.shape[1:3] != (PICTURE_SIZE, PICTURE_SIZE):
            raise UserError(
                f"pictures of {pictures.shape[2]} x {pictures.shape[1]} pixels are not allowed: "
                f"the encoder {self.name} takes {PICTURE_SIZE} x {PICTURE_SIZE}."
            )
        tokens, pooled = _in_batches(self.network.picture, pictures)
        return Features(pooled, tokens)

    def save(self, path: Path) -> "OwnEncoder":
        """Write an encoder directory and return the encoder named after it; raises UserError if the
        path exists."""
        card = {
            "sizes": asdict(self.sizes),
            "vocabulary": self.vocabulary.words,
            "details": self.details,
        }
        DIRECTORY.write(path, self.network, card)
        return replace(self, name=str(path))


def open_own(path: str | Path) -> OwnEncoder:
    """Open an encoder that `save` wrote; raises UserError if it is missing or damaged."""
    path = Path(path)
    card = DIRECTORY.card(path)
    try:
        sizes, vocabulary = Sizes(**card["sizes"]), Vocabulary(card["vocabulary"])
        count = len(vocabulary.words)
        like = jax.eval_shape(lambda: OwnNetwork.init(jax.random.key(0), sizes, count))
    except (KeyError, TypeError) as error:
        raise DIRECTORY.damaged(path, error) from error
    network = DIRECTORY.fill(like, path)
    return OwnEncoder(str(path), network, vocabulary, sizes, card.get("details") or {})


@eqx.filter_jit
def _apply(network: Callable, rows: Array) -> tuple[Array, Array]:
    return network(rows)


def _in_batches(network: Callable, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """The network's outputs for the rows, computed in batches."""
    outputs = []
    for start in range(0, len(rows), BATCH_SIZES[-1]):
        batch = rows[start : start + BATCH_SIZES[-1]]
        count = len(batch)
        size = next(each for each in BATCH_SIZES if each >= count)
        padded = np.concatenate([batch, np.zeros((size - count, *rows.shape[1:]), rows.dtype)])
        outputs.append([np.asarray(each)[:count] for each in _apply(network, jnp.asarray(padded))])
    return tuple(np.concatenate(each) for each in zip(*outputs, strict=True))
