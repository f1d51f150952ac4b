"""Errors that name the nearest valid choice."""

import pytest

from kilolayer.errors import nearest

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
def test_nearest_option_is_found(name: str, expected: str) -> None:
    assert nearest(name, (*TASKS, "quickstart", "paper")) == expected


def test_nearest_always_names_an_option() -> None:
    assert nearest("xyz", TASKS) in TASKS
    assert nearest("xyz", ()) is None
