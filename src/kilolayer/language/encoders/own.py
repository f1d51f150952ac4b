"""The package's own small encoder of pictures and sentences, for machines without hub access.

Patches of a picture do not interact, so that a token describes only its own place. Words attend to
each other, because their order matters. `kilolayer.language.encoders.train_own` trains one.
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

from kilolayer.errors import UserError
from kilolayer.language.base import PICTURE_SIZE, Features, check_pictures, check_sentences
from kilolayer.language.words import split_words
from kilolayer.networks.block import Architecture, Dense, NormedLayer, TorsoSpec, rms_norm
from kilolayer.networks.stack import Stack
from kilolayer.runtime.tensors import TensorDirectory, fingerprint
from kilolayer.types import Array

DIRECTORY = TensorDirectory("encoder", 1)
BATCH_SIZES = (1, 64)  # a batch is padded to the next of them, so that two programs are compiled
PATCH = 8  # pixels of a side
SIDE = PICTURE_SIZE // PATCH  # patches of a row
PATCHES = SIDE**2
MAX_WORDS = 20  # of a sentence; later words are ignored
BUCKETS = 8  # token ids shared by the words outside the vocabulary
PADDING = 0  # token id of padding
MASKED_SCORE = -1e9  # attention score of padding; finite, because a row may be all padding
# The layers on patches are most of the work. They have no norms, which would cost more than the
# matrix products.
PLAIN = Architecture(norm="none", activation="relu")
POSITION_SPREAD = 0.25  # initial standard deviation of the position embeddings


@dataclass(frozen=True)
class Sizes:
    """width: of the layers. token_dim: size of patch tokens, word tokens and pooled vectors.
    picture_blocks: residual blocks of two layers on every patch. word_layers: attention layers over
    the words, each with one residual block. heads: of attention and of pooling."""

    width: int = 64
    token_dim: int = 64
    picture_blocks: int = 1
    word_layers: int = 2
    heads: int = 8


class PictureNetwork(eqx.Module):
    """`[rows, height, width, 3]` uint8 -> patches `[rows, patches, token_dim]`, pooled `[rows,
    token_dim]`."""

    ground: Array  # [patches, pixels]: the background, subtracted from every picture, not trained
    inputs: NormedLayer
    rows: Array  # [side, width]: with `columns`, the position embedding
    columns: Array  # [side, width]
    stack: Stack
    tokens: Dense
    values: NormedLayer
    hidden: NormedLayer
    pooled: Dense

    @staticmethod
    def init(key: Array, sizes: Sizes) -> "PictureNetwork":
        keys = jax.random.split(key, 8)
        width = sizes.width
        return PictureNetwork(
            ground=jnp.full((PATCHES, 3 * PATCH**2), 0.5),
            inputs=_plain(keys[0], 3 * PATCH**2, width),
            rows=POSITION_SPREAD * jax.random.normal(keys[1], (SIDE, width)),
            columns=POSITION_SPREAD * jax.random.normal(keys[7], (SIDE, width)),
            stack=Stack.init(
                keys[2], TorsoSpec(2 * sizes.picture_blocks, width, 2, architecture=PLAIN)
            ),
            tokens=Dense.init(keys[3], width, sizes.token_dim),
            values=_plain(keys[4], sizes.token_dim, 2 * width),
            hidden=NormedLayer.init(keys[5], 2 * width, 4 * width),
            pooled=Dense.init(keys[6], 6 * width, sizes.token_dim),
        )

    def __call__(self, pictures: Array) -> tuple[Array, Array]:
        tokens = self._embed(to_patches(pictures), self.ground, self._position())
        return tokens, self._pool(tokens, self._background_values())

    def pool_foreground(self, patches: Array, indices: Array) -> Array:
        """The pooled vectors of pictures, from only the patches that differ from the background.

        patches: `[rows, foreground, pixels]`, uint8. indices: their positions in the picture,
        `[rows, foreground]`. All other patches must show the background.
        """
        background, position = self.ground[indices], self._position()[indices]
        tokens = self._embed(patches, background, position)
        return self._pool(tokens, self._background_values()[indices])

    def _embed(self, patches: Array, background: Array, position: Array) -> Array:
        x = patches.astype(jnp.float32) / 255 - jax.lax.stop_gradient(background)
        return rms_norm(self.tokens(self.stack(self.inputs(x) + position)))

    def _position(self) -> Array:
        """Position embedding `[patches, width]`, the sum of a row's and a column's, so that
        learning about a row applies to all its columns."""
        return (self.rows[:, None] + self.columns).reshape(PATCHES, -1)

    def _background_values(self) -> Array:
        """The values of the background's tokens, `[patches, dim]`."""
        x = self.inputs(jnp.zeros_like(self.ground)) + self._position()
        return self.values(rms_norm(self.tokens(self.stack(x))))

    def _pool(self, tokens: Array, background: Array) -> Array:
        # Background patches add nothing; otherwise they would outweigh a few markers.
        values = (self.values(tokens) - background).sum(-2)
        return rms_norm(self.pooled(jnp.concatenate([values, self.hidden(values)], -1)))


def _plain(key: Array, fan_in: int, fan_out: int) -> NormedLayer:
    return NormedLayer.init(key, fan_in, fan_out, norm="none", activation="relu")


def to_patches(pictures: Any) -> Any:
    """`[..., size, size, 3]` -> `[..., patches, pixels]`, for numpy and JAX arrays."""
    *rows, size, _, _ = pictures.shape
    side = size // PATCH
    x = pictures.reshape(*rows, side, PATCH, side, PATCH, 3).swapaxes(-4, -3)
    return x.reshape(*rows, side**2, 3 * PATCH**2)


class SelfAttentionBlock(eqx.Module):
    """`[rows, words, width] -> same`: self-attention (arXiv 1706.03762, section 3.2), then a
    residual block."""

    projections: NormedLayer
    output: Dense
    block: Stack
    heads: int = eqx.field(static=True)

    @staticmethod
    def init(key: Array, width: int, heads: int) -> "SelfAttentionBlock":
        keys = jax.random.split(key, 3)
        return SelfAttentionBlock(
            NormedLayer.init(keys[0], width, 3 * width, norm_first=True, activation="linear"),
            Dense.init(keys[1], width, width),
            Stack.init(keys[2], TorsoSpec(2, width, 2)),
            heads,
        )

    def __call__(self, x: Array, mask: Array) -> Array:
        projected = self.projections(x)
        query, key, value = jnp.split(projected.reshape(*x.shape[:-1], self.heads, -1), 3, axis=-1)
        scores = jnp.einsum("rqhd,rkhd->rhqk", query, key) / jnp.sqrt(query.shape[-1])
        scores = jnp.where(mask[:, None, None], scores, MASKED_SCORE)
        attended = jnp.einsum("rhqk,rkhd->rqhd", jax.nn.softmax(scores, axis=-1), value)
        return self.block(x + self.output(attended.reshape(x.shape)))


class AttentionPool(eqx.Module):
    """`[rows, tokens, width] -> [rows, dim]`: attention pooling with learned scores per head, then
    a layer over the outputs of all heads."""

    scores: Dense
    values: Dense
    hidden: NormedLayer
    output: Dense

    @staticmethod
    def init(key: Array, width: int, heads: int, dim: int) -> "AttentionPool":
        keys = jax.random.split(key, 4)
        return AttentionPool(
            scores=Dense.init(keys[0], width, heads),
            values=Dense.init(keys[1], width, 2 * width),
            hidden=NormedLayer.init(keys[2], 2 * width, 2 * width),
            output=Dense.init(keys[3], 2 * width, dim),
        )

    def __call__(self, x: Array, mask: Array) -> Array:
        scores = jnp.where(mask[..., None], self.scores(x), MASKED_SCORE)
        weights = jax.nn.softmax(scores, axis=-2)
        values = self.values(x)
        values = values.reshape(*values.shape[:-1], weights.shape[-1], -1)
        pooled = jnp.einsum("rth,rthd->rhd", weights, values)
        return rms_norm(self.output(self.hidden(pooled.reshape(len(pooled), -1))))


class SentenceNetwork(eqx.Module):
    """Token ids `[rows, words]` -> word tokens `[rows, words, token_dim]`, pooled `[rows,
    token_dim]`."""

    embedding: Array  # [1 + buckets + vocabulary, width]
    position: Array  # [MAX_WORDS, width]
    layers: tuple[SelfAttentionBlock, ...]
    tokens: Dense
    pool: AttentionPool

    @staticmethod
    def init(key: Array, sizes: Sizes, vocabulary_size: int) -> "SentenceNetwork":
        keys = jax.random.split(key, 5)
        width = sizes.width
        return SentenceNetwork(
            embedding=jax.random.normal(keys[0], (1 + BUCKETS + vocabulary_size, width)),
            position=POSITION_SPREAD * jax.random.normal(keys[1], (MAX_WORDS, width)),
            layers=tuple(
                SelfAttentionBlock.init(each, width, sizes.heads)
                for each in jax.random.split(keys[2], sizes.word_layers)
            ),
            tokens=Dense.init(keys[3], width, sizes.token_dim),
            pool=AttentionPool.init(keys[4], width, sizes.heads, sizes.token_dim),
        )

    def __call__(self, words: Array) -> tuple[Array, Array]:
        mask = words != PADDING
        x = self.embedding[words] + self.position[: words.shape[-1]]
        for layer in self.layers:
            x = layer(x, mask)
        return rms_norm(self.tokens(x)), self.pool(x, mask)


class OwnNetwork(eqx.Module):
    """Both networks. All output vectors have root mean square 1, so a cosine is a mean product."""

    picture: PictureNetwork
    sentence: SentenceNetwork

    @staticmethod
    def init(key: Array, sizes: Sizes, vocabulary_size: int) -> "OwnNetwork":
        picture, sentence = jax.random.split(key)
        return OwnNetwork(
            PictureNetwork.init(picture, sizes),
            SentenceNetwork.init(sentence, sizes, vocabulary_size),
        )

    def with_background(self, picture: np.ndarray) -> "OwnNetwork":
        """The network with this picture, `[size, size, 3]`, as the background to subtract."""
        background = to_patches(jnp.asarray(picture, jnp.float32)) / 255
        return eqx.tree_at(lambda network: network.picture.ground, self, background)


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
