"""Examples of instructions, each with its picture and the one goal that it means."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from kilolayer.language.base import SPLITS, Example, Marker, Split
from kilolayer.language.board import Board, Place, board_of
from kilolayer.language.places import (
    WITHHELD_PAIRS,
    Slots,
    Told,
    goals_by_relation,
    goals_of,
    names,
    references,
    withheld_goals,
)
from kilolayer.language.words import (
    COLOUR_NAMES,
    SIDES,
    Kind,
    Shape,
    Wording,
    fits,
    matching_wording,
    wordings,
    words_of_others,
)
from kilolayer.tasks.base import Task

FEWEST_MARKERS, MOST_MARKERS = 3, 5
APART = 0.9  # least distance between markers along x or y, in squares, so that none hides another
Markers = tuple[Marker, ...]


@dataclass(frozen=True)
class _Source:
    """Everything that examples are drawn from."""

    task: Task
    board: Board
    split: Split
    generator: np.random.Generator


def draw_examples(task: Task, split: Split, count: int, seed: int) -> list[Example]:
    """Draw `count` examples, with equal numbers of each kind in random order.

    Equal arguments give equal examples. The split `unseen-combination` has only relative
    instructions. Raises UserError for a task without instructions.
    """
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    source = _Source(task, board_of(task), split, generator)
    kinds: tuple[Kind, ...] = ("absolute", "marker", "relative")
    if split == "unseen-combination":
        kinds = ("relative",)
    order = generator.permutation([kinds[index % len(kinds)] for index in range(count)])
    draws = {"absolute": _absolute, "marker": _marker, "relative": _relative}
    return [draws[kind](source) for kind in order.tolist()]


def draw_scene(task: Task, generator: np.random.Generator) -> Markers:
    """Three to five markers of different colours, at distinct possible goals."""
    return _scatter(board_of(task), (), generator)


def matching_template(task: Task, sentence: str) -> str | None:
    """The template that a sentence matches, or None. Case and punctuation are ignored."""
    return matching_wording(board_of(task).family, sentence)


def foreign_words(task: Task, sentence: str) -> tuple[str, ...]:
    """Words of the sentence that belong only to other tasks, such as `cube` in a maze; in order."""
    return words_of_others(board_of(task).family, sentence)


def _absolute(source: _Source) -> Example:
    board, generator = source.board, source.generator
    cell = _pick(generator, goals_of(source.task, source.split))
    told = _pick(generator, list(names(board, cell)))
    return _example(source, told, _scatter(board, (), generator), board.centre(cell))


def _marker(source: _Source) -> Example:
    board, generator = source.board, source.generator
    place = board.draw(_pick(generator, goals_of(source.task, source.split)), generator)
    colour = _pick(generator, COLOUR_NAMES)
    markers = _scatter(board, (Marker(colour, place),), generator)
    return _example(source, Told("marker", {"colour": (colour,)}, f"at, {colour}"), markers, place)


def _relative(source: _Source) -> Example:
    """Draw the goal first, then the markers that the instruction refers to."""
    board, generator = source.board, source.generator
    goals = goals_by_relation(source.task, source.split)
    allowed = board.goal_set - withheld_goals(source.task)
    relation = _pick(generator, list(goals))
    while True:
        goal = board.draw(_pick(generator, goals[relation]), generator)
        first = board.draw(_pick(generator, board.goals), generator)
        places = references(board, relation, goal, first)
        if allowed.issuperset(map(board.cell_of, places)) and _are_apart(board, places):
            break
    colours = _colours(relation, source.split, generator)
    markers = _scatter(board, tuple(map(Marker, colours, places)), generator)
    name = f"{relation}, {' and '.join(colours)}"
    slots: Slots = {"colour": (colours[0],)}
    if relation == "between":
        told = Told("between", {**slots, "other": (colours[1],)}, name)
    else:
        told = Told("side", {**slots, "side": SIDES[relation]}, name)
    return _example(source, told, markers, goal)


def _colours(relation: str, split: Split, generator: np.random.Generator) -> list[str]:
    """Colours of the markers that the instruction refers to. The split decides whether one of them
    is withheld for this relation."""
    wanted = split == "unseen-combination"
    while True:
        colours = generator.permutation(COLOUR_NAMES)[: 2 if relation == "between" else 1].tolist()
        if any((relation, colour) in WITHHELD_PAIRS for colour in colours) == wanted:
            return colours


def _example(source: _Source, told: Told, markers: Markers, place: Place) -> Example:
    wording = _pick(source.generator, _wordings(source.board.family, told.shape, source.split))
    return Example(
        sentence=fill(wording.template, told.slots, source.generator),
        markers=markers,
        goal=source.board.goal(place),
        kind=wording.kind,
        template=wording.template,
        combination=told.combination,
        split=source.split,
    )


@cache
def _wordings(family: str, shape: Shape, split: Split) -> tuple[Wording, ...]:
    return tuple(w for w in wordings(family) if w.shape == shape and fits(w, split))


def fill(template: str, slots: Slots, generator: np.random.Generator) -> str:
    """The template with a random word in each slot."""
    return template.format(**{slot: _pick(generator, words) for slot, words in slots.items()})


def _scatter(board: Board, markers: Markers, generator: np.random.Generator) -> Markers:
    """The given markers and additional ones, in random order, which reveals nothing."""
    count = int(generator.integers(FEWEST_MARKERS, MOST_MARKERS + 1))
    places = [marker.place for marker in markers]
    while len(places) < count:
        place = board.draw(_pick(generator, board.goals), generator)
        if _are_apart(board, (*places, place)):
            places.append(place)
    said = [marker.colour for marker in markers]
    others = [
        colour for colour in generator.permutation(COLOUR_NAMES).tolist() if colour not in said
    ]
    colours = [*said, *others[: count - len(said)]]
    placed = [Marker(colour, place) for colour, place in zip(colours, places, strict=True)]
    return tuple(placed[index] for index in generator.permutation(count))


def _are_apart(board: Board, places: tuple[Place, ...]) -> bool:
    """Whether the last place is at least APART from all places before it."""
    *before, last = places
    return all(max(map(abs, board.squares_between(last, place))) >= APART for place in before)


def _pick(generator: np.random.Generator, choices):
    return choices[int(generator.integers(len(choices)))]
