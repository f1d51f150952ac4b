"""Captions: true sentences about a picture, to train an encoder that matches the two.

Captions use the places and relations of the training wordings. They never name a withheld square,
never relate a marker in it to anything, and never combine a withheld pair of relation and colour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from kilolayer.language.base import Marker
from kilolayer.language.board import Board, Place, board_of
from kilolayer.language.instructions import (
    STEPS,
    WITHHELD_PAIRS,
    Description,
    Markers,
    absolute_descriptions,
    choose,
    fill_template,
    withheld_goals,
)
from kilolayer.language.words import SIDES, training_frames
from kilolayer.tasks.base import Task

NOUNS = ("marker", "disc", "spot", "circle", "dot")
PLACE_VERBS, RELATION_VERBS = ("is at", "lies at"), ("is", "lies")
MAX_DEVIATION = 0.25  # from a relation's exact place, in squares
MIN_DISTANCE = 0.5  # that counts as further to one side, in squares


def captions(task: Task, markers: Markers, generator: np.random.Generator) -> list[str]:
    """Several true sentences in random order: the colours, the places of one or two markers, and
    relations between markers.

    Raises UserError for a task without instructions.
    """
    board, withheld = board_of(task), withheld_goals(task)
    seen = [marker for marker in markers if board.cell_of(marker.place) not in withheld]
    writer = _Writer(board, generator)
    places = [writer.place(marker) for marker in seen]
    *colours, last = (marker.colour for marker in markers)
    sentences = [f"there are {', '.join(colours)} and {last} markers", *places]
    sentences += [" and ".join(pair) for pair in zip(places[::2], places[1::2], strict=False)]
    sentences += [*writer.sides(seen), *writer.betweens(seen), *writer.comparisons(seen)]
    return [sentences[index] for index in generator.permutation(len(sentences))]


@dataclass(frozen=True)
class _Writer:
    """Writes the captions of one picture."""

    board: Board
    generator: np.random.Generator

    def place(self, marker: Marker) -> str:
        choices = list(absolute_descriptions(self.board, self.board.cell_of(marker.place)))
        return self._caption(marker, PLACE_VERBS, choose(self.generator, choices))

    def sides(self, markers: list[Marker]) -> Iterator[str]:
        for marker, other in permutations(markers, 2):
            for relation, (right, up) in STEPS.items():
                place = self.board.moved(other.place, right, up)
                if (relation, other.colour) not in WITHHELD_PAIRS and self._is_at(marker, place):
                    slots = {"side": SIDES[relation], "colour": (other.colour,)}
                    description = Description("side", slots, relation)
                    yield self._caption(marker, RELATION_VERBS, description)

    def betweens(self, markers: list[Marker]) -> Iterator[str]:
        for marker in markers:
            others = [other for other in markers if other is not marker]
            for first, second in combinations(others, 2):
                if {("between", first.colour), ("between", second.colour)} & WITHHELD_PAIRS:
                    continue
                right, up = self.board.squares_between(first.place, second.place)
                if self._is_at(marker, self.board.moved(first.place, right / 2, up / 2)):
                    slots = {"colour": (first.colour,), "other": (second.colour,)}
                    description = Description("between", slots, "between")
                    yield self._caption(marker, RELATION_VERBS, description)

    def comparisons(self, markers: list[Marker]) -> Iterator[str]:
        """Such as `the red marker is further left than the blue disc`; instructions have no such
        comparisons."""
        words = {"left of": "left", "right of": "right", "above": "up", "below": "down"}
        for pair in combinations(markers, 2):
            marker, other = (pair[index] for index in self.generator.permutation(2))
            right, up = self.board.squares_between(other.place, marker.place)
            for relation, (along, across) in STEPS.items():
                further = right * along + up * across
                if further >= MIN_DISTANCE and (relation, other.colour) not in WITHHELD_PAIRS:
                    subject, reference = self._noun(marker), self._noun(other)
                    yield f"{subject} is further {words[relation]} than {reference}"

    def _caption(self, marker: Marker, verbs: tuple[str, ...], description: Description) -> str:
        frame = choose(self.generator, training_frames(self.board.family, description.shape))
        verb = choose(self.generator, verbs)
        subject = self._noun(marker)
        return f"{subject} {verb} {fill_template(frame, description.slots, self.generator)}"

    def _noun(self, marker: Marker) -> str:
        return f"the {marker.colour} {choose(self.generator, NOUNS)}"

    def _is_at(self, marker: Marker, place: Place) -> bool:
        return max(map(abs, self.board.squares_between(marker.place, place))) <= MAX_DEVIATION
