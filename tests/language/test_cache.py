"""Features kept on disk, pairs of encoders, and the features of instructions, with an encoder whose
answers are known and which counts what it is asked."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kilolayer.language.base import Features
from kilolayer.language.contexts import contexts
from kilolayer.language.encoders.cache import Cached
from kilolayer.language.encoders.pair import Pair
from kilolayer.types import UserError


class Letters:
    """A token of each letter of a sentence, and one patch of each row of a picture."""

    def __init__(self, weight: float = 1.0, name: str = "letters", sees: bool = True):
        self.weight, self.name, self.reads, self.sees = weight, name, True, sees
        self.asked: list[object] = []

    def fingerprint(self) -> str:
        return hashlib.sha256(str(self.weight).encode()).hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        self.asked += sentences
        counts = np.array([len(sentence) for sentence in sentences])
        tokens = np.zeros((len(counts), counts.max() + 1, 2), np.float32)
        for row, sentence in enumerate(sentences):
            tokens[row, : counts[row], 0] = [ord(letter) * self.weight for letter in sentence]
        mask = np.arange(tokens.shape[1]) < counts[:, None]
        return Features(tokens.sum(1), tokens, mask)

    def image(self, pictures: np.ndarray) -> Features:
        self.asked += [int(picture.sum()) for picture in pictures]
        tokens = pictures.sum(2, dtype=np.float32) * self.weight
        return Features(tokens.sum(1), tokens)


SENTENCES = ["left", "right", "left", "up"]
PICTURES = np.zeros((4, 2, 3, 3), np.uint8)
PICTURES[1], PICTURES[3] = 1, 2


def test_a_second_pass_asks_nothing_and_answers_the_same(tmp_path: Path) -> None:
    direct, encoder, again = Letters(), Letters(), Letters()
    first = Cached(encoder, tmp_path).text(SENTENCES)
    second = Cached(again, tmp_path).text(SENTENCES)
    assert sorted(map(str, encoder.asked)) == ["left", "right", "up"]
    assert not again.asked
    expected = direct.text(SENTENCES)
    assert expected.tokens is not None
    assert expected.mask is not None
    for features in (first, second):
        np.testing.assert_array_equal(features.pooled, expected.pooled)
        # No more padding than the longest needs.
        np.testing.assert_array_equal(features.tokens, expected.tokens[:, :5])
        np.testing.assert_array_equal(features.mask, expected.mask[:, :5])


def test_pictures_are_known_by_content_and_shape(tmp_path: Path) -> None:
    encoder = Letters()
    cached = Cached(encoder, tmp_path)
    features = cached.image(PICTURES)
    np.testing.assert_array_equal(features.tokens, Letters().image(PICTURES).tokens)
    assert features.mask is None
    assert len(encoder.asked) == 3
    # The same bytes in another shape are another picture.
    cached.image(PICTURES.reshape(4, 3, 2, 3))
    assert len(encoder.asked) == 6


def test_features_of_another_encoder_are_not_taken(tmp_path: Path) -> None:
    Cached(Letters(), tmp_path).text(SENTENCES)
    features = Cached(Letters(weight=2.0), tmp_path).text(SENTENCES)
    np.testing.assert_array_equal(features.pooled, Letters(weight=2.0).text(SENTENCES).pooled)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "another"])
def test_what_is_damaged_is_computed_again(tmp_path: Path, damage: str) -> None:
    Cached(Letters(), tmp_path).text(["left", "right"])
    files = sorted(tmp_path.rglob("*.safetensors"))
    whole = [file.read_bytes() for file in files]
    flipped = bytes([*whole[0][:-1], whole[0][-1] ^ 1])
    bad = {"cut": whole[0][:-3], "flip": flipped, "empty": b"", "another": whole[1]}[damage]
    files[0].write_bytes(bad)
    encoder = Letters()
    features = Cached(encoder, tmp_path).text(["left", "right"])
    assert len(encoder.asked) == 1
    np.testing.assert_array_equal(features.pooled, Letters().text(["left", "right"]).pooled)
    # And is whole again.
    assert files[0].read_bytes() == whole[0]


def test_several_writers_share_a_directory(tmp_path: Path) -> None:
    sentences = [f"cell {number}" for number in range(30)]
    with ThreadPoolExecutor(4) as pool:
        passes = pool.map(lambda _: Cached(Letters(), tmp_path).text(sentences).pooled, range(8))
    for pooled in passes:
        np.testing.assert_array_equal(pooled, Letters().text(sentences).pooled)
    # Nothing half written stays behind.
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 30


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep features in .*file.*another directory"):
        Cached(Letters(), tmp_path / "file").text(["left"])


def test_an_encoder_is_asked_in_parts_that_are_kept(tmp_path: Path) -> None:
    class Killed(Letters):
        def text(self, sentences: Sequence[str]) -> Features:
            if self.asked:
                raise KeyboardInterrupt
            return super().text(sentences)

    sentences = [f"cell {number}" for number in range(100)]
    with pytest.raises(KeyboardInterrupt):
        Cached(Killed(), tmp_path).text(sentences)
    encoder = Letters()
    Cached(encoder, tmp_path).text(sentences)
    assert len(encoder.asked) == 100 - 64


def test_a_pair_takes_each_half_from_one_of_them() -> None:
    texts, images = Letters(name="a", sees=False), Letters(weight=3.0, name="b")
    pair = Pair(texts, images)
    assert pair.name == "a+b"
    pair.text(["left"])
    pair.image(PICTURES[:1])
    assert (texts.asked, images.asked) == (["left"], [0])
    assert pair.fingerprint() != Pair(images, images).fingerprint()
    with pytest.raises(UserError, match=r"a takes no pictures"):
        Pair(images, texts)


def test_contexts_encode_what_is_equal_once() -> None:
    encoder = Letters()
    text, patches = contexts(encoder, SENTENCES, PICTURES)
    assert encoder.asked == [0, 18, 36, "left", "right", "up"]
    np.testing.assert_array_equal(text, Letters().text(SENTENCES).pooled)
    np.testing.assert_array_equal(patches, Letters().image(PICTURES).tokens)


def test_contexts_of_an_encoder_without_tokens_have_one_patch() -> None:
    class Pooled(Letters):
        def image(self, pictures: np.ndarray) -> Features:
            return Features(super().image(pictures).pooled)

    _, patches = contexts(Pooled(), SENTENCES, PICTURES)
    np.testing.assert_array_equal(patches[:, 0], Letters().image(PICTURES).pooled)


def test_as_many_pictures_as_sentences_are_needed() -> None:
    with pytest.raises(UserError, match="4 sentences do not go with 2 pictures"):
        contexts(Letters(), SENTENCES, PICTURES[:2])
