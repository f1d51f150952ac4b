"""Tests for kilolayer.language.instructions, words and captions."""

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.language.base import SPLITS, Marker
from kilolayer.language.board import board_of
from kilolayer.language.captions import captions
from kilolayer.language.instructions import (
    draw_examples,
    draw_scene,
    foreign_words,
    matching_template,
)
from kilolayer.language.places import (
    RELATIONS,
    STEPS,
    WITHHELD_PAIRS,
    names,
    withheld_goals,
)
from kilolayer.language.words import COLOUR_NAMES, FRAMES, SIDES, VERBS, wordings
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.types import UserError

U_MAZE, ARM = make_task("point_u_maze"), make_task("arm_push_hard")
NAMES = ("point_u_maze", "point_hardest_maze", "arm_push_easy", "arm_reach", "pusher_hard")
SAID = {word: relation for relation, words in SIDES.items() for word in words}


def tasks_with_words() -> list[str]:
    def has_words(name: str) -> bool:
        try:
            return bool(board_of(make_task(name)))
        except UserError:
            return False

    return list(filter(has_words, TASKS))


def pairs_of(combination: str) -> set[tuple[str, str]]:
    relation, colours = combination.split(", ")
    return {(relation, colour) for colour in colours.split(" and ")}


def meaning(task, example) -> tuple[float, ...]:
    """The planar goal that a sentence means in its picture, read anew from its words."""
    board, sentence = board_of(task), example.sentence
    places = {marker.colour: marker.place for marker in example.markers}
    colours = [word for word in re.findall(r"\w+", sentence) if word in COLOUR_NAMES]
    if len(colours) == 2:
        return tuple(np.mean([places[colour] for colour in colours], axis=0))
    side = next((word for word in sorted(SAID, key=len)[::-1] if f" {word} the" in sentence), None)
    if colours and side:
        return board.moved(places[colours[0]], *STEPS[SAID[side]])
    if colours:
        return places[colours[0]]
    phrases = {phrase: cell for cell in board.goals for phrase in phrases_for(board, cell)}
    longest = max((phrase for phrase in phrases if sentence.endswith(phrase)), key=len)
    return board.centre(phrases[longest])


def phrases_for(board, cell) -> set[str]:
    """Everything that may be said of a square by its place alone, held-back frames too."""
    place = "maze" if board.family == "maze" else "table"
    said = set()
    for shape, slots, _ in names(board, cell):
        for frame in FRAMES:
            if frame.shape == shape:
                for words in product(*slots.values()):
                    filled = dict(zip(slots, words, strict=True), place=place)
                    said.add(f" {frame.text.format(**filled)}")
    return said


def test_the_u_maze_says_what_a_person_would():
    board = board_of(U_MAZE)
    top_left, right = phrases_for(board, (1, 1)), phrases_for(board, (2, 3))
    assert {" the far left corner", " the top left", " row one, column one"} <= top_left
    # The second row has a wall in its middle: its ends are the left and the right passage.
    assert {" the right end of row two", " column three, row two"} <= right
    assert not any("corner" in phrase for phrase in right)
    assert " the bottom end of column three" in phrases_for(board, (3, 3))
    # Its only way down on the left ends at the start, which is no goal.
    assert not any("column one" in phrase and "bottom" in phrase for phrase in top_left)
    assert withheld_goals(U_MAZE) == {(2, 1)}


@pytest.mark.parametrize("name", tasks_with_words())
def test_no_two_squares_share_a_phrase(name):
    board = board_of(make_task(name))
    said = Counter(phrase for cell in board.goals for phrase in phrases_for(board, cell))
    assert max(said.values()) == 1


@pytest.mark.parametrize("name", NAMES)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32 - 1))
def test_every_sentence_means_its_goal_which_can_be_one(name, split, seed):
    task = make_task(name)
    board = board_of(task)
    for example in draw_examples(task, split, 6, seed):
        assert len(example.goal) == task.goal.dim
        np.testing.assert_allclose(meaning(task, example), example.goal[:2], atol=1e-9)
        assert board.cell_of(example.goal[:2]) in board.goals
        if task.goal_box is not None:
            low, high = np.array(task.goal_box)
            assert (example.goal >= low - 1e-9).all()
            assert (example.goal <= high + 1e-9).all()
        assert 3 <= len(example.markers) <= 5
        assert len({marker.colour for marker in example.markers}) == len(example.markers)
        assert len({marker.place for marker in example.markers}) == len(example.markers)
        assert matching_template(task, f"{example.sentence.capitalize()}!") == example.template


@pytest.mark.parametrize("name", NAMES)
def test_each_split_withholds_the_one_thing_that_it_is_named_after(name):
    task = make_task(name)
    board, withheld = board_of(task), withheld_goals(task)
    assert 1 <= len(withheld) <= len(board.goals) / 5
    seen_wordings = {wording.template for wording in wordings(board.family) if wording.seen}
    words = {}
    for split in SPLITS:
        # So many that training's words, however rare, have all been said.
        examples = draw_examples(task, split, 2500 if split == "seen" else 400, seed=1)
        words[split] = {word for example in examples for word in example.sentence.split()}
        for example in examples:
            colours = re.findall("|".join(COLOUR_NAMES), example.sentence)
            meant = [m.place for m in example.markers if m.colour in colours]
            if example.kind == "relative":
                assert not withheld & set(map(board.cell_of, meant))
                unseen = bool(pairs_of(example.combination) & WITHHELD_PAIRS)
                assert unseen == (split == "unseen-combination")
            goal = board.cell_of(example.goal[:2])
            assert (goal in withheld) == (split == "unseen-goal")
            assert (example.template in seen_wordings) == (split != "unseen-paraphrase")
    assert words["unseen-goal"] <= words["seen"]
    assert words["unseen-combination"] <= words["seen"]
    assert not words["unseen-paraphrase"] <= words["seen"]


@pytest.mark.parametrize("name", tasks_with_words())
def test_every_task_has_every_split_with_its_kinds_in_equal_parts(name):
    task = make_task(name)
    for split in SPLITS:
        kinds = Counter(example.kind for example in draw_examples(task, split, 31, seed=0))
        expected = [31] if split == "unseen-combination" else [10, 10, 11]
        assert sorted(kinds.values()) == expected


def test_relations_and_colours_come_about_equally_often():
    examples = draw_examples(ARM, "seen", 1500, seed=0)
    relations = Counter(
        example.combination.split(",")[0] for example in examples if example.kind == "relative"
    )
    assert set(relations) == set(RELATIONS)
    assert min(relations.values()) > 70
    colours = Counter(example.combination for example in examples if example.kind == "marker")
    assert len(colours) == 6
    assert min(colours.values()) > 60


def test_withheld_pairs_are_a_fifth_and_each_part_is_in_pairs_that_are_not():
    pairs = set(product(RELATIONS, COLOUR_NAMES))
    assert len(WITHHELD_PAIRS) == len(pairs) / 5
    assert {relation for relation, _ in pairs - WITHHELD_PAIRS} == set(RELATIONS)
    assert {colour for _, colour in pairs - WITHHELD_PAIRS} == set(COLOUR_NAMES)


@pytest.mark.parametrize("family", VERBS)
@pytest.mark.parametrize("kind", ["absolute", "marker", "relative"])
def test_a_fifth_of_many_wordings_is_held_back(family, kind):
    seen = [wording.seen for wording in wordings(family) if wording.kind == kind]
    assert len(seen) >= 80
    assert 0.17 <= 1 - np.mean(seen) <= 0.23


def test_equal_seeds_give_equal_examples_and_others_do_not():
    assert draw_examples(ARM, "seen", 20, 3) == draw_examples(ARM, "seen", 20, 3)
    assert draw_examples(ARM, "seen", 20, 3) != draw_examples(ARM, "seen", 20, 4)
    assert draw_examples(ARM, "seen", 0, 3) == []


def test_the_same_sentence_and_picture_mean_the_same_goal():
    meant, again = {}, 0
    for seed in range(3):
        for example in draw_examples(U_MAZE, "seen", 1000, seed):
            key = example.sentence, frozenset(example.markers)
            again += key in meant
            assert meant.setdefault(key, example.goal) == example.goal
    assert again > 0


def test_captions_of_a_known_picture():
    """Red at the top left, blue beside it, yellow in the withheld square, green far from all."""
    markers = (
        Marker("red", (1.0, 3.0)),
        Marker("blue", (2.0, 3.0)),
        Marker("yellow", (1.0, 2.0)),
        Marker("green", (3.0, 1.0)),
    )
    said = [
        s for seed in range(150) for s in captions(U_MAZE, markers, np.random.default_rng(seed))
    ]

    def is_said(pattern: str) -> bool:
        return any(re.fullmatch(pattern, sentence) for sentence in said)

    assert "there are red, blue, yellow and green markers" in said
    assert is_said(r"the red \w+ (is|lies) at the (top|upper|far) left corner")
    assert is_said(r"the red \w+ (is|lies) one step (to the )?left of the blue marker")
    assert is_said(r"the blue \w+ (is|lies) just (to the )?right of the red disc")
    assert is_said(r"the green \w+ is further down than the red \w+")
    assert is_said(r"the red \w+ .* and the blue \w+ (is|lies) at .*column two.*")
    # Nothing of what lies in the withheld square, and `right of` is never put with green.
    assert not any("yellow" in sentence for sentence in said if "there are" not in sentence)
    assert not is_said(r".*(right than|right of) the green.*")


@pytest.mark.parametrize("name", ["point_u_maze", "arm_push_hard"])
def test_captions_hold_nothing_that_is_withheld(name):
    task = make_task(name)
    generator = np.random.default_rng(0)
    said = [
        caption
        for _ in range(300)
        for caption in captions(task, draw_scene(task, generator), generator)
    ]
    unseen = [frame.text for frame in FRAMES if not frame.seen]
    # Words that only withheld frames have.
    told = {word for frame in FRAMES if frame.seen for word in frame.text.split()}
    telling = {word for text in unseen for word in text.split()} - told
    assert {"coloured", "meets", "immediately"} <= telling
    assert not telling & {word for caption in said for word in caption.split()}
    pattern = re.compile(rf"({'|'.join(SAID)}) the ({'|'.join(COLOUR_NAMES)})")
    pairs = {(SAID[word], colour) for caption in said for word, colour in pattern.findall(caption)}
    assert pairs
    assert not pairs & WITHHELD_PAIRS
    between = re.compile(rf"between the (\w+) .*the ({'|'.join(COLOUR_NAMES)})")
    for caption in said:
        for colours in between.findall(caption):
            assert not {("between", colour) for colour in colours} & WITHHELD_PAIRS


@pytest.mark.parametrize(
    ("sentence", "template"),
    [
        ("Go to the red marker.", "go to the {colour} marker"),
        ("walk just ABOVE the green disc", "walk just {side} the {colour} disc"),
        ("go to row three, column one", "go to row {row}, column {column}"),
        ("go to the pink marker", None),
        ("bring me a cup of tea", None),
        ("", None),
        ("go " * 5000, None),
    ],
)
def test_sentences_by_hand_fit_a_template_or_none(sentence, template):
    assert matching_template(U_MAZE, sentence) == template


@pytest.mark.parametrize(
    ("name", "sentence", "words"),
    [
        ("point_u_maze", "Push the cube to the far left corner", ("push", "cube")),
        ("arm_push_easy", "walk to the middle of the maze", ("walk", "maze")),
        ("arm_reach", "push the puck to the red marker", ("push", "puck")),
        ("pusher_easy", "push the puck to the red marker", ()),
        ("ant_u_maze", "go to the red marker", ()),
    ],
)
def test_an_instruction_for_another_task_is_told_by_its_words(name, sentence, words):
    assert foreign_words(make_task(name), sentence) == words
