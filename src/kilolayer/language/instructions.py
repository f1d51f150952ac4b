"""Examples of instructions, each with its picture and the one goal that it means.

What is withheld from training is fixed for each task and does not depend on the seed.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from kilolayer.language.base import SPLITS, Example, Kind, Marker, Split
from kilolayer.language.board import Board, Cell, Place, board_of
from kilolayer.language.words import (
    COLOUR_NAMES,
    HANDS,
    HEIGHTS,
    NUMBERS,
    ORDINALS,
    SIDES,
    Shape,
    split_wordings,
)
from kilolayer.tasks.base import Task

MIN_MARKERS, MAX_MARKERS = 3, 5
MIN_GAP = 0.9  # between markers along x or y, in squares, so that none hides another
Markers = tuple[Marker, ...]
T = TypeVar("T")
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


def draw_examples(task: Task, split: Split, count: int, seed: int) -> list[Example]:
    """Draw `count` examples, with equal numbers of each kind in random order.

    Equal arguments give equal examples. The split `unseen-combination` has only relative
    instructions. Raises UserError for a task without instructions.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    sampler = _Sampler(task, board_of(task), split, generator)
    kinds: tuple[Kind, ...] = ("absolute", "marker", "relative")
    if split == "unseen-combination":
        kinds = ("relative",)
    order = generator.permutation([kinds[index % len(kinds)] for index in range(count)])
    draws = {"absolute": sampler.absolute, "marker": sampler.marker, "relative": sampler.relative}
    return [draws[kind]() for kind in order.tolist()]


def draw_scene(task: Task, generator: np.random.Generator) -> Markers:
    """Three to five markers of different colours, at distinct possible goals."""
    return _add_markers(board_of(task), (), generator)


@dataclass(frozen=True)
class _Sampler:
    """Draws examples of one split."""

    task: Task
    board: Board
    split: Split
    generator: np.random.Generator

    def absolute(self) -> Example:
        cell = choose(self.generator, goals_of(self.task, self.split))
        description = choose(self.generator, list(absolute_descriptions(self.board, cell)))
        return self._example(description, (), self.board.centre(cell))

    def marker(self) -> Example:
        cell = choose(self.generator, goals_of(self.task, self.split))
        place = self.board.draw(cell, self.generator)
        colour = choose(self.generator, COLOUR_NAMES)
        description = Description("marker", {"colour": (colour,)}, f"at, {colour}")
        return self._example(description, (Marker(colour, place),), place)

    def relative(self) -> Example:
        """Draw the goal first, then the markers that the instruction refers to."""
        board, generator = self.board, self.generator
        goals = goals_by_relation(self.task, self.split)
        allowed = set(board.goals) - withheld_goals(self.task)
        relation = choose(generator, list(goals))
        while True:
            goal = board.draw(choose(generator, goals[relation]), generator)
            first = board.draw(choose(generator, board.goals), generator)
            places = landmarks(board, relation, goal, first)
            if allowed.issuperset(map(board.cell_of, places)) and _are_apart(board, places):
                break
        colours = self._colours(relation)
        name = f"{relation}, {' and '.join(colours)}"
        slots: Slots = {"colour": (colours[0],)}
        if relation == "between":
            description = Description("between", {**slots, "other": (colours[1],)}, name)
        else:
            description = Description("side", {**slots, "side": SIDES[relation]}, name)
        return self._example(description, tuple(map(Marker, colours, places)), goal)

    def _colours(self, relation: str) -> list[str]:
        """Colours of the markers that the instruction refers to. The split decides whether one of
        them is withheld for this relation."""
        unseen, count = self.split == "unseen-combination", 2 if relation == "between" else 1
        while True:
            colours = self.generator.permutation(COLOUR_NAMES)[:count].tolist()
            if any((relation, colour) in WITHHELD_PAIRS for colour in colours) == unseen:
                return colours

    def _example(self, description: Description, markers: Markers, goal: Place) -> Example:
        """An example with these markers, which the instruction refers to, and additional ones."""
        markers = _add_markers(self.board, markers, self.generator)
        wordings = split_wordings(self.board.family, description.shape, self.split)
        wording = choose(self.generator, wordings)
        return Example(
            sentence=fill_template(wording.template, description.slots, self.generator),
            markers=markers,
            goal=self.board.goal(goal),
            kind=wording.kind,
            template=wording.template,
            combination=description.combination,
            split=self.split,
        )


def fill_template(template: str, slots: Slots, generator: np.random.Generator) -> str:
    """The template with a random word in each slot."""
    return template.format(**{slot: choose(generator, words) for slot, words in slots.items()})


def _add_markers(board: Board, markers: Markers, generator: np.random.Generator) -> Markers:
    """The given markers and additional ones, in random order, which reveals nothing."""
    count = int(generator.integers(MIN_MARKERS, MAX_MARKERS + 1))
    places = [marker.place for marker in markers]
    while len(places) < count:
        place = board.draw(choose(generator, board.goals), generator)
        if _are_apart(board, (*places, place)):
            places.append(place)
    named = [marker.colour for marker in markers]
    others = [each for each in generator.permutation(COLOUR_NAMES).tolist() if each not in named]
    placed = list(map(Marker, [*named, *others[: count - len(named)]], places))
    return tuple(placed[index] for index in generator.permutation(count))


def _are_apart(board: Board, places: tuple[Place, ...]) -> bool:
    """Whether the last place is at least MIN_GAP from all places before it."""
    *before, last = places
    return all(max(map(abs, board.squares_between(last, place))) >= MIN_GAP for place in before)


def choose(generator: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, all equally likely."""
    return choices[int(generator.integers(len(choices)))]
