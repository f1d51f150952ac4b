"""Input that every encoder refuses, in one clear sentence each."""

import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.language.base import check_pictures, check_sentences


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([""], "the sentence is empty: name a goal"),
        (["go left", " \n"], "the sentence is empty"),
        (["x" * 10_000], "has 10,000 characters and at most 1,000 are read: write a shorter one"),
        (["go \udcff"], "character 4 of the sentence is not valid Unicode"),
        ([3], "must be text, not int"),
        ("go left", "a list of at least one sentence"),
        ([], "a list of at least one sentence"),
    ],
)
def test_invalid_sentences_are_refused(sentences: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_sentences(sentences)


def test_sentences_in_any_script_pass() -> None:
    sentences = ["x" * 1000, "à gauche", "左へ行け"]
    assert check_sentences(sentences) == sentences


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((96, 96, 3), r"\[rows, height, width, 3\] is needed.*pictures\[None\]"),
        ((1, 96, 96, 4), r"shape \(1, 96, 96, 4\).*convert\('RGB'\)"),
        ((1, 3, 96, 96), r"shape \(1, 3, 96, 96\)"),
        ((0, 96, 96, 3), "none of them 0"),
    ],
)
def test_invalid_picture_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_pictures(np.zeros(shape, np.uint8))


def test_float_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="type float32 are not allowed: uint8 from 0 to 255"):
        check_pictures(np.zeros((1, 96, 96, 3), np.float32))


def test_valid_pictures_pass_unchanged() -> None:
    pictures = np.ones((2, 5, 7, 3), np.uint8)
    assert check_pictures(pictures) is pictures
