"""Sentences that are true of a picture, for an encoder that learns which sentence goes with which.

They are made of the places and relations of the training wordings. A withheld square is never
named, nor what lies in it related to anything; a withheld pair of relation and colour is never put
together.
"""

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from kilolayer.language.base import Marker
from kilolayer.language.board import Board, board_of
from kilolayer.language.instructions import Markers, fill
from kilolayer.language.places import STEPS, WITHHELD_PAIRS, Told, names, withheld_goals
from kilolayer.language.words import SIDES, frames
from kilolayer.tasks.base import Task

NOUNS = ("marker", "disc", "spot", "circle", "dot")
AT, IS = ("is at", "lies at"), ("is", "lies")
EXACT = 0.25  # squares that a marker may lie off a relation and still be said to have it
CLEAR = 0.5  # squares further to a side, at least, to be said to lie further


def captions(task: Task, markers: Markers, generator: np.random.Generator) -> list[str]:
    """Several sentences, in no order: which colours there are, where each marker is, two at once,
    and how they lie to each other.

    Raises UserError for a task without instructions.
    """
    board, withheld = board_of(task), withheld_goals(task)
    seen = [marker for marker in markers if board.cell_of(marker.place) not in withheld]
    places = [_place(board, marker, generator) for marker in seen]
    *colours, last = (marker.colour for marker in markers)
    said = [f"there are {', '.join(colours)} and {last} markers", *places]
    said += [" and ".join(pair) for pair in zip(places[::2], places[1::2], strict=False)]
    said += _sides(board, seen, generator)
    said += _betweens(board, seen, generator)
    said += _comparisons(board, seen, generator)
    return [said[index] for index in generator.permutation(len(said))]


def _place(board: Board, marker: Marker, generator: np.random.Generator) -> str:
    choices = list(names(board, board.cell_of(marker.place)))
    told = choices[int(generator.integers(len(choices)))]
    return _say(board, marker, AT, told, generator)


def _sides(board: Board, markers: list[Marker], generator: np.random.Generator) -> Iterator[str]:
    for marker, other in permutations(markers, 2):
        for relation, (right, up) in STEPS.items():
            there = board.moved(other.place, right, up)
            if (relation, other.colour) not in WITHHELD_PAIRS and _near(board, marker, there):
                slots = {"side": SIDES[relation], "colour": (other.colour,)}
                yield _say(board, marker, IS, Told("side", slots, relation), generator)


def _betweens(board: Board, markers: list[Marker], generator: np.random.Generator) -> Iterator[str]:
    for marker in markers:
        others = [other for other in markers if other is not marker]
        for first, second in combinations(others, 2):
            if {("between", first.colour), ("between", second.colour)} & WITHHELD_PAIRS:
                continue
            right, up = board.squares_between(first.place, second.place)
            if _near(board, marker, board.moved(first.place, right / 2, up / 2)):
                slots = {"colour": (first.colour,), "other": (second.colour,)}
                yield _say(board, marker, IS, Told("between", slots, "between"), generator)


def _comparisons(
    board: Board, markers: list[Marker], generator: np.random.Generator
) -> Iterator[str]:
    """Such as `the red marker is further left than the blue disc`, which no instruction says."""
    words = {"left of": "left", "right of": "right", "above": "up", "below": "down"}
    for pair in combinations(markers, 2):
        marker, other = (pair[index] for index in generator.permutation(2))
        right, up = board.squares_between(other.place, marker.place)
        for relation, (along, across) in STEPS.items():
            further = right * along + up * across
            if further >= CLEAR and (relation, other.colour) not in WITHHELD_PAIRS:
                subject, thing = _thing(marker, generator), _thing(other, generator)
                yield f"{subject} is further {words[relation]} than {thing}"


def _say(
    board: Board,
    marker: Marker,
    verbs: tuple[str, ...],
    told: Told,
    generator: np.random.Generator,
) -> str:
    choices = frames(board.family, told.shape)
    frame = choices[int(generator.integers(len(choices)))]
    verb = verbs[int(generator.integers(len(verbs)))]
    return f"{_thing(marker, generator)} {verb} {fill(frame, told.slots, generator)}"


def _thing(marker: Marker, generator: np.random.Generator) -> str:
    return f"the {marker.colour} {NOUNS[int(generator.integers(len(NOUNS)))]}"


def _near(board: Board, marker: Marker, place: tuple[float, float]) -> bool:
    return max(map(abs, board.squares_between(marker.place, place))) <= EXACT
