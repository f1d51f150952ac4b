"""The cache of features, pairs of encoders, and the features of instructions, with an encoder whose
features are known and which records its inputs."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.language.base import Features
from kilolayer.language.contexts import encode_context
from kilolayer.language.encoders.cache import CachedEncoder
from kilolayer.language.encoders.open import EncoderPair


class Letters:
    """A token of each letter of a sentence, and one patch of each row of a picture."""

    def __init__(self, weight: float = 1.0, name: str = "letters", encodes_images: bool = True):
        self.weight, self.name, self.encodes_text = weight, name, True
        self.encodes_images = encodes_images
        self.inputs: list[object] = []

    def fingerprint(self) -> str:
        return hashlib.sha256(str(self.weight).encode()).hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        self.inputs += sentences
        counts = np.array([len(sentence) for sentence in sentences])
        tokens = np.zeros((len(counts), counts.max() + 1, 2), np.float32)
        for row, sentence in enumerate(sentences):
            tokens[row, : counts[row], 0] = [ord(letter) * self.weight for letter in sentence]
        mask = np.arange(tokens.shape[1]) < counts[:, None]
        return Features(tokens.sum(1), tokens, mask)

    def image(self, pictures: np.ndarray) -> Features:
        self.inputs += [int(picture.sum()) for picture in pictures]
        tokens = pictures.sum(2, dtype=np.float32) * self.weight
        return Features(tokens.sum(1), tokens)


SENTENCES = ["left", "right", "left", "up"]
PICTURES = np.zeros((4, 2, 3, 3), np.uint8)
PICTURES[1], PICTURES[3] = 1, 2


def test_second_pass_reads_equal_features_from_the_cache(tmp_path: Path) -> None:
    direct, encoder, again = Letters(), Letters(), Letters()
    first = CachedEncoder(encoder, tmp_path).text(SENTENCES)
    second = CachedEncoder(again, tmp_path).text(SENTENCES)
    assert sorted(map(str, encoder.inputs)) == ["left", "right", "up"]
    assert not again.inputs
    expected = direct.text(SENTENCES)
    assert expected.tokens is not None
    assert expected.mask is not None
    for features in (first, second):
        np.testing.assert_array_equal(features.pooled, expected.pooled)
        # No more padding than the longest needs.
        np.testing.assert_array_equal(features.tokens, expected.tokens[:, :5])
        np.testing.assert_array_equal(features.mask, expected.mask[:, :5])


def test_key_of_a_picture_covers_content_and_shape(tmp_path: Path) -> None:
    encoder = Letters()
    cached = CachedEncoder(encoder, tmp_path)
    features = cached.image(PICTURES)
    np.testing.assert_array_equal(features.tokens, Letters().image(PICTURES).tokens)
    assert features.mask is None
    assert len(encoder.inputs) == 3
    # The same bytes in another shape are another picture.
    cached.image(PICTURES.reshape(4, 3, 2, 3))
    assert len(encoder.inputs) == 6


def test_key_covers_the_encoder_fingerprint(tmp_path: Path) -> None:
    CachedEncoder(Letters(), tmp_path).text(SENTENCES)
    features = CachedEncoder(Letters(weight=2.0), tmp_path).text(SENTENCES)
    np.testing.assert_array_equal(features.pooled, Letters(weight=2.0).text(SENTENCES).pooled)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "another"])
def test_damaged_entries_are_computed_again(tmp_path: Path, damage: str) -> None:
    CachedEncoder(Letters(), tmp_path).text(["left", "right"])
    files = sorted(tmp_path.rglob("*.safetensors"))
    whole = [file.read_bytes() for file in files]
    flipped = bytes([*whole[0][:-1], whole[0][-1] ^ 1])
    bad = {"cut": whole[0][:-3], "flip": flipped, "empty": b"", "another": whole[1]}[damage]
    files[0].write_bytes(bad)
    encoder = Letters()
    features = CachedEncoder(encoder, tmp_path).text(["left", "right"])
    assert len(encoder.inputs) == 1
    np.testing.assert_array_equal(features.pooled, Letters().text(["left", "right"]).pooled)
    # The file is repaired.
    assert files[0].read_bytes() == whole[0]


def test_concurrent_writers_share_a_directory(tmp_path: Path) -> None:
    sentences = [f"cell {number}" for number in range(30)]
    with ThreadPoolExecutor(4) as pool:
        passes = pool.map(
            lambda _: CachedEncoder(Letters(), tmp_path).text(sentences).pooled, range(8)
        )
    for pooled in passes:
        np.testing.assert_array_equal(pooled, Letters().text(sentences).pooled)
    # No temporary file remains.
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 30


def test_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write features to .*file.*another directory"):
        CachedEncoder(Letters(), tmp_path / "file").text(["left"])


def test_features_are_stored_in_chunks(tmp_path: Path) -> None:
    class Killed(Letters):
        def text(self, sentences: Sequence[str]) -> Features:
            if self.inputs:
                raise KeyboardInterrupt
            return super().text(sentences)

    sentences = [f"cell {number}" for number in range(100)]
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Killed(), tmp_path).text(sentences)
    encoder = Letters()
    CachedEncoder(encoder, tmp_path).text(sentences)
    assert len(encoder.inputs) == 100 - 64


def test_pair_encodes_text_and_images_with_different_encoders() -> None:
    texts, images = Letters(name="a", encodes_images=False), Letters(weight=3.0, name="b")
    pair = EncoderPair(texts, images)
    assert pair.name == "a+b"
    pair.text(["left"])
    pair.image(PICTURES[:1])
    assert (texts.inputs, images.inputs) == (["left"], [0])
    assert pair.fingerprint() != EncoderPair(images, images).fingerprint()
    with pytest.raises(UserError, match=r"a takes no pictures"):
        EncoderPair(images, texts)


def test_encode_context_encodes_equal_rows_once() -> None:
    encoder = Letters()
    text, patches = encode_context(encoder, SENTENCES, PICTURES)
    assert encoder.inputs == [0, 18, 36, "left", "right", "up"]
    np.testing.assert_array_equal(text, Letters().text(SENTENCES).pooled)
    np.testing.assert_array_equal(patches, Letters().image(PICTURES).tokens)


def test_encoder_without_tokens_gives_one_patch() -> None:
    class Pooled(Letters):
        def image(self, pictures: np.ndarray) -> Features:
            return Features(super().image(pictures).pooled)

    _, patches = encode_context(Pooled(), SENTENCES, PICTURES)
    np.testing.assert_array_equal(patches[:, 0], Letters().image(PICTURES).pooled)


def test_numbers_of_pictures_and_sentences_must_agree() -> None:
    with pytest.raises(UserError, match="4 sentences do not go with 2 pictures"):
        encode_context(Letters(), SENTENCES, PICTURES[:2])
