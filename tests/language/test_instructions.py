"""Tests for kilolayer.language.instructions, words and captions."""

import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.errors import UserError
from kilolayer.language.base import SPLITS, Marker
from kilolayer.language.board import board_of
from kilolayer.language.captions import captions
from kilolayer.language.instructions import (
    RELATIONS,
    STEPS,
    WITHHELD_PAIRS,
    absolute_descriptions,
    draw_examples,
    draw_scene,
    withheld_goals,
)
from kilolayer.language.words import (
    COLOUR_NAMES,
    FRAMES,
    SIDES,
    VERBS,
    foreign_words,
    wordings,
)
from kilolayer.tasks.registry import TASKS, make_task

U_MAZE, ARM = make_task("point_u_maze"), make_task("arm_push_hard")
TASK_NAMES = ("point_u_maze", "point_hardest_maze", "arm_push_easy", "arm_reach", "pusher_hard")
RELATION_OF = {word: relation for relation, words in SIDES.items() for word in words}


def tasks_with_instructions() -> list[str]:
    def has_instructions(name: str) -> bool:
        try:
            return bool(board_of(make_task(name)))
        except UserError:
            return False

    return list(filter(has_instructions, TASKS))


def pairs_of(combination: str) -> set[tuple[str, str]]:
    relation, colours = combination.split(", ")
    return {(relation, colour) for colour in colours.split(" and ")}


def parse_goal(task, example) -> tuple[float, ...]:
    """The planar goal of a sentence in its picture, from its words, by other code than the
    library's."""
    board, sentence = board_of(task), example.sentence
    places = {marker.colour: marker.place for marker in example.markers}
    colours = [word for word in re.findall(r"\w+", sentence) if word in COLOUR_NAMES]
    if len(colours) == 2:
        return tuple(np.mean([places[colour] for colour in colours], axis=0))
    longest_first = sorted(RELATION_OF, key=len)[::-1]
    side = next((word for word in longest_first if f" {word} the" in sentence), None)
    if colours and side:
        return board.moved(places[colours[0]], *STEPS[RELATION_OF[side]])
    if colours:
        return places[colours[0]]
    phrases = {phrase: cell for cell in board.goals for phrase in phrases_for(board, cell)}
    longest = max((phrase for phrase in phrases if sentence.endswith(phrase)), key=len)
    return board.centre(phrases[longest])


def phrases_for(board, cell) -> set[str]:
    """All absolute descriptions of a square, with the withheld frames."""
    place = "maze" if board.family == "maze" else "table"
    phrases = set()
    for shape, slots, _ in absolute_descriptions(board, cell):
        for frame in FRAMES:
            if frame.shape == shape:
                for words in product(*slots.values()):
                    filled = dict(zip(slots, words, strict=True), place=place)
                    phrases.add(f" {frame.text.format(**filled)}")
    return phrases


def test_descriptions_of_the_u_maze():
    board = board_of(U_MAZE)
    top_left, right = phrases_for(board, (1, 1)), phrases_for(board, (2, 3))
    assert {" the far left corner", " the top left", " row one, column one"} <= top_left
    # The second row has a wall in its middle: its ends are the left and the right cell.
    assert {" the right end of row two", " column three, row two"} <= right
    assert not any("corner" in phrase for phrase in right)
    assert " the bottom end of column three" in phrases_for(board, (3, 3))
    # The bottom end of the first column is the start, which is not a goal.
    assert not any("column one" in phrase and "bottom" in phrase for phrase in top_left)
    assert withheld_goals(U_MAZE) == {(2, 1)}


@pytest.mark.parametrize("name", tasks_with_instructions())
def test_no_two_squares_share_a_phrase(name):
    board = board_of(make_task(name))
    counts = Counter(phrase for cell in board.goals for phrase in phrases_for(board, cell))
    assert max(counts.values()) == 1


@pytest.mark.parametrize("name", TASK_NAMES)
@given(split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32 - 1))
def test_every_sentence_means_its_goal(name, split, seed):
    task = make_task(name)
    board = board_of(task)
    for example in draw_examples(task, split, 6, seed):
        assert len(example.goal) == task.goal.dim
        np.testing.assert_allclose(parse_goal(task, example), example.goal[:2], atol=1e-9)
        assert board.cell_of(example.goal[:2]) in board.goals
        if task.goal_box is not None:
            low, high = np.array(task.goal_box)
            assert (example.goal >= low - 1e-9).all()
            assert (example.goal <= high + 1e-9).all()
        assert 3 <= len(example.markers) <= 5
        assert len({marker.colour for marker in example.markers}) == len(example.markers)
        assert len({marker.place for marker in example.markers}) == len(example.markers)
        assert re.fullmatch(
            re.sub(r"\\{\w+\\}", r"[\\w ]+", re.escape(example.template)), example.sentence
        )


@pytest.mark.parametrize("name", TASK_NAMES)
def test_each_split_withholds_only_what_its_name_says(name):
    task = make_task(name)
    board, withheld = board_of(task), withheld_goals(task)
    assert 1 <= len(withheld) <= len(board.goals) / 5
    seen_wordings = {wording.template for wording in wordings(board.family) if wording.seen}
    words = {}
    for split in SPLITS:
        # Enough examples for every word of training to occur.
        examples = draw_examples(task, split, 2500 if split == "seen" else 400, seed=1)
        words[split] = {word for example in examples for word in example.sentence.split()}
        for example in examples:
            colours = re.findall("|".join(COLOUR_NAMES), example.sentence)
            landmarks = [m.place for m in example.markers if m.colour in colours]
            if example.kind == "relative":
                assert not withheld & set(map(board.cell_of, landmarks))
                unseen = bool(pairs_of(example.combination) & WITHHELD_PAIRS)
                assert unseen == (split == "unseen-combination")
            goal = board.cell_of(example.goal[:2])
            assert (goal in withheld) == (split == "unseen-goal")
            assert (example.template in seen_wordings) == (split != "unseen-paraphrase")
    assert words["unseen-goal"] <= words["seen"]
    assert words["unseen-combination"] <= words["seen"]
    assert not words["unseen-paraphrase"] <= words["seen"]


@pytest.mark.parametrize("name", tasks_with_instructions())
def test_every_split_has_equal_numbers_of_each_kind(name):
    task = make_task(name)
    for split in SPLITS:
        kinds = Counter(example.kind for example in draw_examples(task, split, 31, seed=0))
        expected = [31] if split == "unseen-combination" else [10, 10, 11]
        assert sorted(kinds.values()) == expected


def test_relations_and_colours_are_balanced():
    examples = draw_examples(ARM, "seen", 1500, seed=0)
    relations = Counter(
        example.combination.split(",")[0] for example in examples if example.kind == "relative"
    )
    assert set(relations) == set(RELATIONS)
    assert min(relations.values()) > 70
    colours = Counter(example.combination for example in examples if example.kind == "marker")
    assert len(colours) == 6
    assert min(colours.values()) > 60


def test_withheld_pairs_are_a_fifth_and_their_parts_occur_in_training():
    pairs = set(product(RELATIONS, COLOUR_NAMES))
    assert len(WITHHELD_PAIRS) == len(pairs) / 5
    assert {relation for relation, _ in pairs - WITHHELD_PAIRS} == set(RELATIONS)
    assert {colour for _, colour in pairs - WITHHELD_PAIRS} == set(COLOUR_NAMES)


@pytest.mark.parametrize("family", VERBS)
@pytest.mark.parametrize("kind", ["absolute", "marker", "relative"])
def test_a_fifth_of_the_wordings_is_withheld(family, kind):
    seen = [wording.seen for wording in wordings(family) if wording.kind == kind]
    assert len(seen) >= 80
    assert 0.17 <= 1 - np.mean(seen) <= 0.23


def test_examples_depend_on_the_seed():
    assert draw_examples(ARM, "seen", 20, 3) == draw_examples(ARM, "seen", 20, 3)
    assert draw_examples(ARM, "seen", 20, 3) != draw_examples(ARM, "seen", 20, 4)
    assert draw_examples(ARM, "seen", 0, 3) == []


def test_the_same_sentence_and_picture_mean_the_same_goal():
    goals, repeated = {}, 0
    for seed in range(3):
        for example in draw_examples(U_MAZE, "seen", 1000, seed):
            key = example.sentence, frozenset(example.markers)
            repeated += key in goals
            assert goals.setdefault(key, example.goal) == example.goal
    assert repeated > 0


def test_captions_of_a_known_picture():
    """Red at the top left, blue beside it, yellow in the withheld square, green far from all."""
    markers = (
        Marker("red", (1.0, 3.0)),
        Marker("blue", (2.0, 3.0)),
        Marker("yellow", (1.0, 2.0)),
        Marker("green", (3.0, 1.0)),
    )
    sentences = [
        s for seed in range(150) for s in captions(U_MAZE, markers, np.random.default_rng(seed))
    ]

    def occurs(pattern: str) -> bool:
        return any(re.fullmatch(pattern, sentence) for sentence in sentences)

    assert "there are red, blue, yellow and green markers" in sentences
    assert occurs(r"the red \w+ (is|lies) at the (top|upper|far) left corner")
    assert occurs(r"the red \w+ (is|lies) one step (to the )?left of the blue marker")
    assert occurs(r"the blue \w+ (is|lies) just (to the )?right of the red disc")
    assert occurs(r"the green \w+ is further down than the red \w+")
    assert occurs(r"the red \w+ .* and the blue \w+ (is|lies) at .*column two.*")
    # No caption places the marker in the withheld square, and `right of` never occurs with green.
    assert not any("yellow" in sentence for sentence in sentences if "there are" not in sentence)
    assert not occurs(r".*(right than|right of) the green.*")


@pytest.mark.parametrize("name", ["point_u_maze", "arm_push_hard"])
def test_captions_contain_nothing_withheld(name):
    task = make_task(name)
    generator = np.random.default_rng(0)
    sentences = [
        caption
        for _ in range(300)
        for caption in captions(task, draw_scene(task, generator), generator)
    ]

    def frame_words(seen: bool) -> set[str]:
        return {word for frame in FRAMES if frame.seen == seen for word in frame.text.split()}

    withheld = frame_words(seen=False) - frame_words(seen=True)
    assert {"coloured", "meets", "immediately"} <= withheld
    assert not withheld & {word for caption in sentences for word in caption.split()}
    pattern = re.compile(rf"({'|'.join(RELATION_OF)}) the ({'|'.join(COLOUR_NAMES)})")
    pairs = {
        (RELATION_OF[word], colour)
        for caption in sentences
        for word, colour in pattern.findall(caption)
    }
    assert pairs
    assert not pairs & WITHHELD_PAIRS
    between = re.compile(rf"between the (\w+) .*the ({'|'.join(COLOUR_NAMES)})")
    for caption in sentences:
        for colours in between.findall(caption):
            assert not {("between", colour) for colour in colours} & WITHHELD_PAIRS


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
def test_foreign_words(name, sentence, words):
    assert foreign_words(make_task(name), sentence) == words
