"""The wordings of instructions: our own templates, a fixed fifth of them withheld from training.

A wording is a verb and a frame, such as `go to` and `the {colour} marker`. It is withheld if its
verb or its frame is, so an unseen paraphrase contains words or phrases that never occur in
training.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

from kilolayer.language.base import Kind, Split
from kilolayer.language.board import board_of
from kilolayer.tasks.base import Task

Shape = Literal["square", "corner", "row end", "column end", "middle", "marker", "side", "between"]
"""The type of description that a frame expresses."""

COLOUR_NAMES = ("red", "green", "blue", "yellow", "purple", "orange")
NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen",
)  # fmt: skip
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth",
)  # fmt: skip
SIDES: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "up from"),
    "below": ("below", "down from"),
}
"""The words for relations; `between` has its own frames."""
HEIGHTS = {"top": ("top", "upper", "far"), "bottom": ("bottom", "lower", "near")}
HANDS = {"left": ("left",), "right": ("right",)}


@dataclass(frozen=True)
class Frame:
    """The words for a place. seen: whether training uses it."""

    shape: Shape
    text: str
    seen: bool = True

    @property
    def kind(self) -> Kind:
        if self.shape in ("side", "between"):
            return "relative"
        return "marker" if self.shape == "marker" else "absolute"


@dataclass(frozen=True)
class Verb:
    """The words for moving.

    stem: used alone before relative frames, as in `go just above the red marker`. preposition:
    follows the stem before other frames.
    """

    stem: str
    preposition: str
    seen: bool = True


@dataclass(frozen=True)
class Wording:
    """A template of a whole sentence, with slots in braces."""

    template: str
    kind: Kind
    shape: Shape
    seen: bool


def _to(*stems: str) -> tuple[Verb, ...]:
    return tuple(Verb(stem, "to") for stem in stems)


# Ten verbs per family, of which one is withheld.
VERBS: dict[str, tuple[Verb, ...]] = {
    "maze": (
        *_to("go", "walk", "move", "run", "travel", "proceed", "please go", "find your way"),
        Verb("head", "for"),
        Verb("make your way", "to", seen=False),
    ),
    "cube": (
        *_to("push the cube", "slide the cube", "move the cube", "bring the cube", "get the cube"),
        *_to("push the block", "slide the block", "move the block", "please push the cube"),
        Verb("shove the block", "to", seen=False),
    ),
    "hand": (
        *_to("move the hand", "bring the hand", "reach", "stretch", "move the gripper"),
        *_to("bring the gripper", "please move the hand", "guide the hand"),
        Verb("reach", "for"),
        Verb("steer the gripper", "to", seen=False),
    ),
    "puck": (
        *_to("push the puck", "slide the puck", "move the puck", "bring the puck", "get the puck"),
        *_to("push the disk", "slide the disk", "move the disk", "please push the puck"),
        Verb("shove the puck", "to", seen=False),
    ),
}
FAMILY_WORDS: dict[str, frozenset[str]] = {
    "maze": frozenset({"maze", "walk", "run", "travel"}),
    "cube": frozenset({"cube", "block", "table", "push", "slide", "shove"}),
    "hand": frozenset({"hand", "gripper", "table", "reach"}),
    "puck": frozenset({"puck", "disk", "table", "push", "slide", "shove"}),
}
"""Words that identify the family of an instruction. Words such as `go` or `bring` fit several."""
BOARD_NOUNS = {"maze": "maze", "cube": "table", "hand": "table", "puck": "table"}

FRAMES: tuple[Frame, ...] = (
    Frame("square", "row {row}, column {column}"),
    Frame("square", "column {column} of row {row}"),
    Frame("square", "column {column}, row {row}"),
    Frame("square", "the square in row {row}, column {column}"),
    Frame("square", "the {rowth} row, {columnth} column"),
    Frame("square", "the crossing of row {row} and column {column}"),
    Frame("square", "the place where row {row} meets column {column}", seen=False),
    Frame("corner", "the {height} {hand} corner"),
    Frame("corner", "the {height} {hand}"),
    Frame("corner", "the {height} {hand} square"),
    Frame("corner", "the {height} {hand} corner of the {place}"),
    Frame("corner", "the corner at the {height} {hand}"),
    Frame("corner", "the {hand} corner of the {height} side", seen=False),
    Frame("row end", "the {hand} end of row {row}"),
    Frame("row end", "the {hand} end of the {rowth} row"),
    Frame("row end", "the {hand}most square of row {row}"),
    Frame("row end", "where row {row} ends on the {hand}", seen=False),
    Frame("column end", "the {height} end of column {column}"),
    Frame("column end", "the {height} end of the {columnth} column"),
    Frame("column end", "the {height} square of column {column}"),
    Frame("middle", "the middle of the {place}"),
    Frame("middle", "the centre of the {place}"),
    Frame("middle", "the middle"),
    Frame("middle", "the middle square"),
    Frame("marker", "the {colour} marker"),
    Frame("marker", "the {colour} disc"),
    Frame("marker", "the {colour} spot"),
    Frame("marker", "the {colour} circle"),
    Frame("marker", "the {colour} dot"),
    Frame("marker", "the marker that is {colour}"),
    Frame("marker", "the place of the {colour} marker"),
    Frame("marker", "where the {colour} marker is"),
    Frame("marker", "the disc coloured {colour}", seen=False),
    Frame("side", "one step {side} the {colour} marker"),
    Frame("side", "one square {side} the {colour} marker"),
    Frame("side", "one step {side} the {colour} disc"),
    Frame("side", "one square {side} the {colour} spot"),
    Frame("side", "just {side} the {colour} marker"),
    Frame("side", "just {side} the {colour} disc"),
    Frame("side", "directly {side} the {colour} marker"),
    Frame("side", "a step {side} the {colour} circle"),
    Frame("side", "immediately {side} the {colour} dot", seen=False),
    Frame("between", "between the {colour} and the {other} marker"),
    Frame("between", "between the {colour} marker and the {other} marker"),
    Frame("between", "midway between the {colour} and the {other} marker"),
    Frame("between", "halfway between the {colour} and the {other} disc"),
    Frame("between", "between the {colour} and the {other} disc"),
    Frame("between", "exactly between the {colour} and the {other} spot"),
    Frame("between", "in the middle between the {colour} and the {other} marker"),
    Frame("between", "halfway from the {colour} marker to the {other} marker"),
    Frame("between", "in between the {colour} disc and the {other} disc", seen=False),
)


@cache
def wordings(family: str) -> tuple[Wording, ...]:
    """All templates of a family of tasks, ordered by verb."""
    found = []
    for verb, frame in product(VERBS[family], FRAMES):
        start = verb.stem if frame.kind == "relative" else f"{verb.stem} {verb.preposition}"
        text = frame.text.replace("{place}", BOARD_NOUNS[family])
        seen = verb.seen and frame.seen
        found.append(Wording(f"{start} {text}", frame.kind, frame.shape, seen))
    # `reach to` and `reach for` differ only in the preposition, which relative frames omit.
    return tuple(dict.fromkeys(found))


def training_frames(family: str, shape: Shape) -> tuple[str, ...]:
    """The training frames of this shape, for captions."""
    texts = (frame.text for frame in FRAMES if frame.shape == shape and frame.seen)
    return tuple(text.replace("{place}", BOARD_NOUNS[family]) for text in texts)


@cache
def split_wordings(family: str, shape: Shape, split: Split) -> tuple[Wording, ...]:
    """The wordings of this shape that a split uses."""
    seen = split != "unseen-paraphrase"
    return tuple(w for w in wordings(family) if w.shape == shape and w.seen == seen)


def foreign_words(task: Task, sentence: str) -> tuple[str, ...]:
    """The sentence's words that belong only to other tasks, such as `cube` in a maze, in order."""
    foreign = frozenset[str]().union(*FAMILY_WORDS.values()) - FAMILY_WORDS[board_of(task).family]
    return tuple(dict.fromkeys(word for word in split_words(sentence) if word in foreign))


def split_words(sentence: str) -> list[str]:
    """The words and numbers of a sentence, in lower case. All other characters are separators."""
    return re.findall(r"\w+", sentence.lower())
