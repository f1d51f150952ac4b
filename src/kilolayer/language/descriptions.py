"""Descriptions of squares and of relations between places, and those withheld from training.

The withheld ones are fixed for each task and do not depend on the seed.
"""

import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from kilolayer.language.base import Split
from kilolayer.language.board import Board, Cell, Place, board_of
from kilolayer.language.words import (
    COLOUR_NAMES,
    HANDS,
    HEIGHTS,
    NUMBERS,
    ORDINALS,
    SIDES,
    Shape,
)
from kilolayer.tasks.base import Task

STEPS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0), "right of": (1, 0), "above": (0, 1), "below": (0, -1)
}  # fmt: skip
"""For each relation, the goal's offset from the marker, in squares to the right and up."""
RELATIONS = (*SIDES, "between")
# One pair in five is withheld. Training has other pairs of each relation and of each colour.
WITHHELD_PAIRS = frozenset(
    (relation, colour)
    for i, relation in enumerate(RELATIONS)
    for j, colour in enumerate(COLOUR_NAMES)
    if (j - i) % 5 == 0
)
WITHHELD_GOALS = 6  # one square in six is withheld

Slots = dict[str, tuple[str, ...]]
"""The words that may fill each slot of a template. Words of one slot have the same meaning."""


class Description(NamedTuple):
    """A description of a place: the frame's shape, the words for its slots, and a short name."""

    shape: Shape
    slots: Slots
    combination: str


def absolute_descriptions(board: Board, cell: Cell) -> Iterator[Description]:
    """The absolute descriptions of a square, without markers.

    An end of a row or a column is its outermost square without a wall.
    """
    row, column = cell
    numbers: Slots = {
        "row": (NUMBERS[row - 1],),
        "column": (NUMBERS[column - 1],),
        "rowth": (ORDINALS[row - 1],),
        "columnth": (ORDINALS[column - 1],),
    }
    yield Description("square", numbers, f"row {row}, column {column}")
    for height, edge in (("top", 1), ("bottom", board.rows)):
        for hand, side in (("left", 1), ("right", board.columns)):
            if cell == (edge, side):
                corner = {"height": HEIGHTS[height], "hand": HANDS[hand]}
                yield Description("corner", corner, f"{height}, {hand}")
    in_row = [c for r, c in board.free if r == row]
    for hand, side in (("left", min(in_row)), ("right", max(in_row))):
        if column == side:
            yield Description("row end", {**numbers, "hand": HANDS[hand]}, f"{hand} end, row {row}")
    in_column = [r for r, c in board.free if c == column]
    for height, edge in (("top", min(in_column)), ("bottom", max(in_column))):
        if row == edge:
            slots = {**numbers, "height": HEIGHTS[height]}
            yield Description("column end", slots, f"{height} end, column {column}")
    if cell == ((board.rows + 1) / 2, (board.columns + 1) / 2):
        yield Description("middle", {}, "middle")


def landmarks(board: Board, relation: str, goal: Place, first: Place) -> tuple[Place, ...]:
    """The marker places for which a relation means the goal. Of two markers, one is at `first`."""
    if relation != "between":
        right, up = STEPS[relation]
        return (board.moved(goal, -right, -up),)
    return first, board.moved(goal, *board.squares_between(first, goal))


@cache
def withheld_goals(task: Task) -> frozenset[Cell]:
    """The squares reserved for the split `unseen-goal`, about one in six; no two are neighbours.

    All words that describe a withheld square also describe other squares. Therefore the middle
    square is never withheld.
    """
    board = board_of(task)
    kept, withheld = set(board.goals), set[Cell]()
    order = np.random.default_rng(zlib.crc32(task.name.encode())).permutation(len(board.goals))
    for index in order:
        cell = board.goals[index]
        if len(withheld) == max(1, len(board.goals) // WITHHELD_GOALS):
            break
        neighbours = {(cell[0] + up, cell[1] + right) for right, up in STEPS.values()}
        words, other_words = _words_for(board, [cell]), _words_for(board, kept - {cell})
        if not withheld & neighbours and words <= other_words:
            kept.remove(cell)
            withheld.add(cell)
    return frozenset(withheld)


def _words_for(board: Board, cells: Iterable[Cell]) -> set[tuple[Shape, str, str]]:
    return {
        (description.shape, slot, words[0])
        for cell in cells
        for description in absolute_descriptions(board, cell)
        for slot, words in [("", ("",)), *description.slots.items()]
    }


@cache
def goals_of(task: Task, split: Split) -> tuple[Cell, ...]:
    """The goal squares of a split."""
    withheld = withheld_goals(task)
    return tuple(c for c in board_of(task).goals if (c in withheld) == (split == "unseen-goal"))


@cache
def goals_by_relation(task: Task, split: Split) -> dict[str, tuple[Cell, ...]]:
    """For each relation, the goal squares of a split that it can mean with markers in squares that
    are not withheld.

    A relation without such a square is left out.
    """
    board, markers = board_of(task), goals_of(task, "seen")

    def can_mean(relation: str, goal: Cell) -> bool:
        for marker in markers:
            places = landmarks(board, relation, board.centre(goal), board.centre(marker))
            cells = set(map(board.cell_of, places))
            if cells <= set(markers) and goal not in cells:
                return True
        return False

    possible = {
        relation: tuple(goal for goal in goals_of(task, split) if can_mean(relation, goal))
        for relation in RELATIONS
    }
    return {relation: goals for relation, goals in possible.items() if goals}
