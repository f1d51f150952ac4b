"""Examples of instructions, each with its picture and the one goal that it means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kilolayer.language.base import SPLITS, Example, Kind, Marker, Split
from kilolayer.language.board import Board, Place, board_of
from kilolayer.language.descriptions import (
    WITHHELD_PAIRS,
    Description,
    Slots,
    absolute_descriptions,
    goals_by_relation,
    goals_of,
    landmarks,
    withheld_goals,
)
from kilolayer.language.words import COLOUR_NAMES, SIDES, split_wordings
from kilolayer.tasks.base import Task

MIN_MARKERS, MAX_MARKERS = 3, 5
MIN_GAP = 0.9  # between markers along x or y, in squares, so that none hides another
Markers = tuple[Marker, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class _Sampler:
    """Arguments of every draw."""

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
    sampler = _Sampler(task, board_of(task), split, generator)
    kinds: tuple[Kind, ...] = ("absolute", "marker", "relative")
    if split == "unseen-combination":
        kinds = ("relative",)
    order = generator.permutation([kinds[index % len(kinds)] for index in range(count)])
    draws = {"absolute": _absolute, "marker": _marker, "relative": _relative}
    return [draws[kind](sampler) for kind in order.tolist()]


def draw_scene(task: Task, generator: np.random.Generator) -> Markers:
    """Three to five markers of different colours, at distinct possible goals."""
    return _add_markers(board_of(task), (), generator)


def _absolute(sampler: _Sampler) -> Example:
    board, generator = sampler.board, sampler.generator
    cell = choose(generator, goals_of(sampler.task, sampler.split))
    description = choose(generator, list(absolute_descriptions(board, cell)))
    return _example(sampler, description, _add_markers(board, (), generator), board.centre(cell))


def _marker(sampler: _Sampler) -> Example:
    board, generator = sampler.board, sampler.generator
    place = board.draw(choose(generator, goals_of(sampler.task, sampler.split)), generator)
    colour = choose(generator, COLOUR_NAMES)
    markers = _add_markers(board, (Marker(colour, place),), generator)
    description = Description("marker", {"colour": (colour,)}, f"at, {colour}")
    return _example(sampler, description, markers, place)


def _relative(sampler: _Sampler) -> Example:
    """Draw the goal first, then the markers that the instruction refers to."""
    board, generator = sampler.board, sampler.generator
    goals = goals_by_relation(sampler.task, sampler.split)
    allowed = set(board.goals) - withheld_goals(sampler.task)
    relation = choose(generator, list(goals))
    while True:
        goal = board.draw(choose(generator, goals[relation]), generator)
        first = board.draw(choose(generator, board.goals), generator)
        places = landmarks(board, relation, goal, first)
        if allowed.issuperset(map(board.cell_of, places)) and _are_apart(board, places):
            break
    colours = _colours(relation, sampler.split, generator)
    markers = _add_markers(board, tuple(map(Marker, colours, places)), generator)
    name = f"{relation}, {' and '.join(colours)}"
    slots: Slots = {"colour": (colours[0],)}
    if relation == "between":
        description = Description("between", {**slots, "other": (colours[1],)}, name)
    else:
        description = Description("side", {**slots, "side": SIDES[relation]}, name)
    return _example(sampler, description, markers, goal)


def _colours(relation: str, split: Split, generator: np.random.Generator) -> list[str]:
    """Colours of the markers that the instruction refers to. The split decides whether one of them
    is withheld for this relation."""
    unseen = split == "unseen-combination"
    while True:
        colours = generator.permutation(COLOUR_NAMES)[: 2 if relation == "between" else 1].tolist()
        if any((relation, colour) in WITHHELD_PAIRS for colour in colours) == unseen:
            return colours


def _example(
    sampler: _Sampler, description: Description, markers: Markers, place: Place
) -> Example:
    board, generator = sampler.board, sampler.generator
    wordings = split_wordings(board.family, description.shape, sampler.split)
    wording = choose(generator, wordings)
    return Example(
        sentence=fill_template(wording.template, description.slots, generator),
        markers=markers,
        goal=board.goal(place),
        kind=wording.kind,
        template=wording.template,
        combination=description.combination,
        split=sampler.split,
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
