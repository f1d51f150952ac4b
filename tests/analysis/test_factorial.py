"""Effects of factors with known answers: additive games, a known two-by-two, Welch by scipy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from kilolayer.analysis.contrasts import Cells
from kilolayer.analysis.effects import two_levels
from kilolayer.analysis.factorial import interactions, shapley_values, two_by_two
from kilolayer.types import UserError

NOISE = np.array([-0.1, 0.0, 0.1])
GENERATOR = np.random.default_rng(0)


def game(value, factors: int = 3) -> dict:
    """Three seeds around the value of every cell."""
    return {cell: value(*cell) + NOISE for cell in itertools.product((0, 1), repeat=factors)}


def test_shapley_values_of_an_additive_game_are_its_terms():
    split = shapley_values(
        game(lambda a, b, c: 5 + 1 * a + 2 * b - 4 * c), ("a", "b", "c"), GENERATOR
    )
    assert [split.parts[name].value.value for name in "abc"] == pytest.approx([1, 2, -4])
    assert split.total.value.value == pytest.approx(-1)
    assert split.parts["c"].share.value == pytest.approx(4)
    assert split.total.share.value == split.total.share.low == split.total.share.high == 1


def test_shapley_values_share_what_only_three_together_bring():
    split = shapley_values(game(lambda a, b, c: 6 * a * b * c + a), ("a", "b", "c"), GENERATOR)
    assert [split.parts[name].value.value for name in "abc"] == pytest.approx([3, 2, 2])


def test_shapley_values_add_up_and_do_not_depend_on_the_order_of_factors(normal):
    """Against the definition: the mean gain over all orders of switching on."""
    values = dict(zip(itertools.product((0, 1), repeat=3), np.asarray(normal(0, 8)), strict=True))
    split = shapley_values(game(lambda *cell: float(values[cell])), ("a", "b", "c"), GENERATOR)
    gains = np.zeros(3)
    for order in itertools.permutations(range(3)):
        cell = [0, 0, 0]
        for factor in order:
            before = values[tuple(cell)]
            cell[factor] = 1
            gains[factor] += (values[tuple(cell)] - before) / 6
    found = [part.value.value for part in split.parts.values()]
    np.testing.assert_allclose(found, gains, rtol=1e-5)
    assert sum(found) == pytest.approx(split.total.value.value)


def test_a_known_two_by_two():
    scores = game(lambda a, b: 10 + 3 * a + 5 * b + 7 * a * b, 2)
    split = two_by_two(scores, ("a", "b"), "both", GENERATOR)
    values = {name: effect.value.value for name, effect in split.parts.items()}
    assert values == pytest.approx({"a": 3, "b": 5, "both": 7})
    assert split.total.value.value == pytest.approx(15)
    assert split.parts["both"].share.value == pytest.approx(7 / 15)
    assert split.parts["both"].share.low < 7 / 15 < split.parts["both"].share.high
    ((pair, (estimate, p)),) = interactions(scores, ("a", "b")).items()
    assert pair == ("a", "b")
    assert estimate.value == pytest.approx(7)
    # Four cells with the variance 0.01 / 3 of their means each, 8 degrees of freedom.
    error = np.sqrt(4 * 0.01 / 3)
    assert 2 * stats.t.sf(7 / error, 8) < p == pytest.approx(2 / 924)  # ways to divide 12 seeds
    assert estimate.high - 7 == pytest.approx(stats.t.ppf(0.975, 8) * error)


def test_an_interaction_is_averaged_over_the_other_factors():
    scores = game(lambda a, b, c: 2 * a * b * (1 + c))
    found = {pair: each.value for pair, (each, _) in interactions(scores, ("a", "b", "c")).items()}
    assert found == pytest.approx({("a", "b"): 3, ("a", "c"): 1, ("b", "c"): 1})


def test_p_values_are_those_of_welchs_test(normal):
    first, second = np.asarray(normal(1, 4), float), np.asarray(normal(2, 7), float) * 3 + 1
    cells = Cells.from_seeds([first, second])
    expected = stats.ttest_ind(second, first, equal_var=False).pvalue
    assert cells.p_not_zero(np.array([-1.0, 1.0])) == pytest.approx(expected)


def test_share_intervals_hold_the_truth_mostly():
    """Coverage: 300 studies of five seeds whose true share is a third."""
    generator, hits = np.random.default_rng(1), 0
    for _ in range(300):
        noise = generator.normal(size=(4, 5))
        scores = {
            cell: 10 * (cell[0] + cell[1] + cell[0] * cell[1]) + row
            for cell, row in zip(itertools.product((0, 1), repeat=2), noise, strict=True)
        }
        share = two_by_two(scores, ("a", "b"), "both", generator).parts["both"].share
        hits += share.low <= 1 / 3 <= share.high
    assert 0.91 < hits / 300 <= 1


def test_levels_are_the_first_and_the_last_value():
    scores = {(d, w): np.array([d, len(w)]) for d in (4, 8, 16) for w in ("old", "new")}
    assert set(two_levels(scores)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert two_levels(scores)[1, 0][0] == 16
    with pytest.raises(UserError, match="a factor has the one value 4"):
        two_levels({(4, "a"): NOISE, (4, "b"): NOISE})


def test_what_is_missing_is_counted():
    scores = game(lambda a, b: a + b, 2)
    del scores[1, 0]
    with pytest.raises(UserError, match="1 of the 4 combinations of 2 factors have no finished"):
        two_by_two(scores, ("a", "b"), "both", GENERATOR)
    with pytest.raises(UserError, match="an interval needs at least two seeds where there is 1"):
        two_by_two(scores | {(1, 0): NOISE[:1]}, ("a", "b"), "both", GENERATOR)
