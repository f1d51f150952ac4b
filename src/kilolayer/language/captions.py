"""Captions: true sentences about a picture, to train an encoder that matches the two.

Captions use the places and relations of the training wordings. They never name a withheld square,
never relate a marker in it to anything, and never combine a withheld pair of relation and colour.
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
EXACT = 0.25  # largest deviation from a relation's exact place, in squares
CLEAR = 0.5  # least distance that counts as further to one side, in squares


def captions(task: Task, markers: Markers, generator: np.random.Generator) -> list[str]:
    """Several true sentences in random order: the colours, the places of one or two markers, and
    relations between markers.

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
    """Such as `the red marker is further left than the blue disc`; instructions have no such
    comparisons."""
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
