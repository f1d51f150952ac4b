"""Errors that name the nearest valid choice."""

import pytest

from kilolayer.types import nearest

TASKS = ("point_u_maze", "ant_u_maze", "ant_U4_maze", "reacher")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ant_u_mase", "ant_u_maze"),
        ("Reacher", "reacher"),
        ("ANT_u4_maze", "ant_U4_maze"),  # an option keeps its own spelling
        ("papr", "paper"),
    ],
)
def test_the_option_most_like_the_name_is_found(name: str, expected: str) -> None:
    assert nearest(name, (*TASKS, "quickstart", "paper")) == expected


def test_some_option_is_always_named_unless_there_is_none() -> None:
    assert nearest("xyz", TASKS) in TASKS
    assert nearest("xyz", ()) is None
