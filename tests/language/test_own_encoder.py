"""Tests for the package's own small encoder."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.language.base import PICTURE_SIZE, Marker
from kilolayer.language.encoders.open import open_encoder
from kilolayer.language.encoders.own import (
    BUCKETS,
    MAX_WORDS,
    OwnEncoder,
    OwnNetwork,
    Sizes,
    Vocabulary,
    open_own,
)
from kilolayer.language.encoders.train_own import (
    ForegroundPatches,
    Pairs,
    Recipe,
    fit,
    retrieval,
    swap_colours,
    train_own,
)
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task

SIZES = Sizes(width=16, token_dim=16, word_layers=1, heads=2)
COLOURS = {"red": (220, 30, 30), "green": (20, 160, 60), "blue": (30, 80, 240)}
PLACES = {"left": (16, 44), "right": (72, 44)}


def toy() -> Pairs:
    """A square of each colour on the left and one of another on the right, then exchanged."""
    pictures, captions = [], []
    for pair in itertools.combinations(COLOURS, 2):
        for colours in (pair, pair[::-1]):
            picture = np.full((PICTURE_SIZE, PICTURE_SIZE, 3), 200, np.uint8)
            for colour, (x, y) in zip(colours, PLACES.values(), strict=True):
                picture[y : y + 8, x : x + 8] = COLOURS[colour]
            pictures.append(picture)
            captions.append([f"the {colours[0]} square is left of the {colours[1]} one"])
    return Pairs(np.stack(pictures), captions)


def train(seed: int) -> OwnEncoder:
    recipe = Recipe(120, batch_size=6, captions=1, learning_rate=1e-2, forget=0.0, forget_start=0.0)
    network, vocabulary = fit(toy(), recipe, SIZES, seed, SilentDisplay())
    return OwnEncoder("toy", network, vocabulary, SIZES)


@pytest.fixture(scope="module")
def encoder() -> OwnEncoder:
    return train(seed=0)


@pytest.mark.slow
def test_retrieval_distinguishes_sentences_by_word_order(encoder: OwnEncoder) -> None:
    """The six sentences share their words: only the order of the colours differs."""
    pairs = toy()
    found = retrieval(encoder, pairs, seed=0)
    assert found == {"found": 1.0, "found_twin": 1.0}
    pictures = encoder.image(pairs.pictures).pooled
    sentences = encoder.text([each for (each,) in pairs.captions]).pooled
    np.testing.assert_array_equal((pictures @ sentences.T).argmax(-1), range(6))


def test_untrained_encoder_does_not_retrieve(encoder: OwnEncoder) -> None:
    network = OwnNetwork.init(jax.random.key(1), SIZES, len(encoder.vocabulary.words))
    untrained = OwnEncoder("untrained", network, encoder.vocabulary, SIZES)
    assert retrieval(untrained, toy(), seed=0)["found"] < 0.7


def test_shapes_and_sizes_of_features(encoder: OwnEncoder) -> None:
    image, text = encoder.image(toy().pictures[:2]), encoder.text(["red", "left of the blue one"])
    assert image.pooled.shape == (2, 16)
    assert image.tokens is not None
    assert image.tokens.shape == (2, 144, 16)
    assert image.mask is None
    assert text.tokens is not None
    assert text.mask is not None
    assert text.tokens.shape == (2, MAX_WORDS, 16)
    assert text.mask.sum(-1).tolist() == [1, 5]
    for each in (image.pooled, image.tokens, text.pooled, text.tokens):
        assert each.dtype == np.float32
        np.testing.assert_allclose(np.square(each).mean(-1), 1, atol=1e-3)


def test_picture_token_depends_only_on_its_patch(encoder: OwnEncoder) -> None:
    picture = toy().pictures[0]
    changed = picture.copy()
    changed[8:16, 80:88] = 0  # row 1, column 10 of twelve
    tokens = encoder.image(np.stack([picture, changed])).tokens
    assert tokens is not None
    before, after = tokens
    np.testing.assert_array_equal(np.flatnonzero((before != after).any(-1)), [22])


def test_background_patches_do_not_change_the_pooled_vector(encoder: OwnEncoder) -> None:
    pictures = toy().pictures
    background = np.median(pictures, axis=0).astype(np.uint8)
    foreground = ForegroundPatches(pictures, background)
    assert foreground.patches.shape[1] < 10
    arrays = map(jnp.asarray, (foreground.patches, foreground.indices))
    pooled = encoder.network.picture.pool_foreground(*arrays)
    np.testing.assert_allclose(pooled, encoder.image(pictures).pooled, atol=2e-5)


def test_features_do_not_depend_on_the_batch(encoder: OwnEncoder) -> None:
    pictures = np.concatenate([toy().pictures] * 11)  # 66, more than one batch
    together, alone = encoder.image(pictures).pooled, encoder.image(pictures[64:65]).pooled
    np.testing.assert_allclose(together[64:65], alone, atol=2e-5)


def test_token_ids_of_words() -> None:
    vocabulary = Vocabulary.of(["Go to the RED marker!", "row 2"])
    assert vocabulary.words == ("2", "go", "marker", "red", "row", "the", "to")
    (row,) = vocabulary.encode(["red, go zanzibar"])
    first = 1 + BUCKETS
    assert row[:2].tolist() == [first + 3, first + 1]
    assert 1 <= row[2] <= BUCKETS
    assert not row[3:].any()
    assert vocabulary.encode(["red " * 100]).shape == (1, MAX_WORDS)


def test_sentences_without_a_known_word_have_finite_features(encoder: OwnEncoder) -> None:
    features = encoder.text(["xyzzy", "?!", "Zug um Zug", "赤い印へ"])
    assert np.isfinite(features.pooled).all()


def test_invalid_sentences_and_pictures_are_refused(encoder: OwnEncoder) -> None:
    with pytest.raises(UserError, match="the sentence is empty"):
        encoder.text([" "])
    with pytest.raises(UserError, match=r"10,000 characters"):
        encoder.text(["x" * 10_000])
    with pytest.raises(UserError, match=r"shape \(96, 96, 3\)"):
        encoder.image(toy().pictures[0])
    with pytest.raises(UserError, match=r"64 x 32 pixels .* takes 96 x 96"):
        encoder.image(np.zeros((1, 32, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("batch_size", 1, "it must be at least 2; the nearest valid choice is 2"),
        ("captions", 0, "it must be at least 1; the nearest valid choice is 1"),
        ("learning_rate", 0.0, "it must be greater than 0; the nearest valid choice is 0.004"),
        ("forget", 1.5, "it must lie in [0, 1]; the nearest valid choice is 1"),
        ("warm_up", -0.5, "it must lie in [0, 1]; the nearest valid choice is 0"),
    ],
)
def test_invalid_recipes_are_refused(field: str, value: float, allowed: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{field} = {value} is not allowed: {allowed}.")):
        Recipe(**{field: value})


def test_the_same_seed_gives_the_same_bits(encoder: OwnEncoder) -> None:
    assert train(seed=0).fingerprint() == encoder.fingerprint()


def test_fingerprint_depends_on_every_bit_and_every_word(encoder: OwnEncoder) -> None:
    def with_(network: OwnNetwork, words: tuple[str, ...]) -> str:
        return OwnEncoder("other", network, Vocabulary(words), encoder.sizes).fingerprint()

    words, network = encoder.vocabulary.words, encoder.network
    assert with_(network, words) == encoder.fingerprint()
    assert with_(network, (*words[:-1], "other")) != encoder.fingerprint()
    leaves, structure = jax.tree.flatten(network)
    bits = np.asarray(leaves[-1]).view(np.uint32).copy()
    bits.flat[0] ^= 1
    leaves[-1] = jnp.asarray(bits.view(np.float32))
    assert with_(jax.tree.unflatten(structure, leaves), words) != encoder.fingerprint()


def test_saved_encoder_opens_unchanged(encoder: OwnEncoder, tmp_path) -> None:
    saved = encoder.save(tmp_path / "own")
    opened = open_encoder(saved.name)
    assert isinstance(opened, OwnEncoder)
    assert opened.fingerprint() == encoder.fingerprint()
    assert opened.name == str(tmp_path / "own")
    assert opened.encodes_text
    assert opened.encodes_images
    pictures = toy().pictures
    np.testing.assert_array_equal(opened.image(pictures).tokens, encoder.image(pictures).tokens)
    with pytest.raises(UserError, match="exists already"):
        encoder.save(tmp_path / "own")
    weights = tmp_path / "own" / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="is damaged"):
        open_own(tmp_path / "own")
    weights.unlink()
    with pytest.raises(UserError, match="is no whole encoder directory"):
        open_own(tmp_path / "own")


def test_swap_colours_exchanges_two_colours() -> None:
    scene = tuple(
        Marker(colour, (float(at), 0.0)) for at, colour in enumerate(("red", "green", "blue"))
    )
    twin = swap_colours(scene, np.random.default_rng(0))
    assert [each.place for each in twin] == [each.place for each in scene]
    assert sorted(each.colour for each in twin) == ["blue", "green", "red"]
    assert sum(a.colour != b.colour for a, b in zip(scene, twin, strict=True)) == 2


def test_train_own_records_its_retrieval_score(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("kilolayer.language.encoders.train_own.SCENES", 32)
    monkeypatch.setattr("kilolayer.language.encoders.train_own.HELD_OUT_SCENES", 33)
    task = make_task("point_u_maze")
    encoder = train_own(task, tmp_path / "own", updates=1, seed=0, display=SilentDisplay())
    assert open_own(tmp_path / "own").details == encoder.details
    assert encoder.details["task"] == "point_u_maze"
    assert 0 <= encoder.details["score"]["found"] <= encoder.details["score"]["found_twin"] <= 1
    with pytest.raises(UserError, match="exists already"):
        train_own(task, tmp_path / "own", display=SilentDisplay())
    with pytest.raises(UserError, match="updates = 0 is not allowed"):
        train_own(task, tmp_path / "other", 0, display=SilentDisplay())
    with pytest.raises(UserError, match="has no instructions"):
        train_own(make_task("reacher"), tmp_path / "other", display=SilentDisplay())
