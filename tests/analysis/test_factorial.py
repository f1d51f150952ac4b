"""Effects with known values: additive effects, a two-by-two grid, Welch's test from scipy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from kilolayer.analysis.differences import CellMeans
from kilolayer.analysis.effects import (
    code_two_levels,
    decompose_two_by_two,
    shapley_decomposition,
    two_way_interactions,
)
from kilolayer.errors import UserError

NOISE = np.array([-0.1, 0.0, 0.1])
GENERATOR = np.random.default_rng(0)


def game(value, factors: int = 3) -> dict:
    """Three seeds around the value of every cell."""
    return {cell: value(*cell) + NOISE for cell in itertools.product((0, 1), repeat=factors)}


def test_missing_cell_of_a_middle_depth_does_not_change_the_two_levels():
    """All runs of actor depth 4 with critic depth 8 failed."""
    depths = [cell for cell in itertools.product((4, 8, 16), repeat=2) if cell != (4, 8)]
    coded = code_two_levels({cell: np.full(2, sum(cell)) for cell in depths})
    assert {cell: row[0] for cell, row in coded.items()} == {
        (0, 0): 8, (0, 1): 20, (1, 0): 20, (1, 1): 32,
    }  # fmt: skip


def test_shapley_values_of_additive_effects_are_the_effects():
    decomposition = shapley_decomposition(
        game(lambda a, b, c: 5 + 1 * a + 2 * b - 4 * c), ("a", "b", "c"), GENERATOR
    )
    assert [decomposition.parts[name].estimate.value for name in "abc"] == pytest.approx([1, 2, -4])
    assert decomposition.total.estimate.value == pytest.approx(-1)
    assert decomposition.parts["c"].share.value == pytest.approx(4)
    assert (
        decomposition.total.share.value
        == decomposition.total.share.low
        == decomposition.total.share.high
        == 1
    )


def test_shapley_values_divide_a_three_way_interaction_equally():
    decomposition = shapley_decomposition(
        game(lambda a, b, c: 6 * a * b * c + a), ("a", "b", "c"), GENERATOR
    )
    assert [decomposition.parts[name].estimate.value for name in "abc"] == pytest.approx([3, 2, 2])


def test_shapley_values_are_efficient_and_symmetric(normal):
    """The definition: the mean gain over all orders in which factors are switched on."""
    values = dict(zip(itertools.product((0, 1), repeat=3), np.asarray(normal(0, 8)), strict=True))
    decomposition = shapley_decomposition(
        game(lambda *cell: float(values[cell])), ("a", "b", "c"), GENERATOR
    )
    gains = np.zeros(3)
    for order in itertools.permutations(range(3)):
        cell = [0, 0, 0]
        for factor in order:
            before = values[tuple(cell)]
            cell[factor] = 1
            gains[factor] += (values[tuple(cell)] - before) / 6
    values = [part.estimate.value for part in decomposition.parts.values()]
    np.testing.assert_allclose(values, gains, rtol=1e-5)
    assert sum(values) == pytest.approx(decomposition.total.estimate.value)


def test_two_by_two_decomposition_matches_hand_computation():
    scores = game(lambda a, b: 10 + 3 * a + 5 * b + 7 * a * b, 2)
    decomposition = decompose_two_by_two(scores, ("a", "b"), "both", GENERATOR)
    values = {name: effect.estimate.value for name, effect in decomposition.parts.items()}
    assert values == pytest.approx({"a": 3, "b": 5, "both": 7})
    assert decomposition.total.estimate.value == pytest.approx(15)
    assert decomposition.parts["both"].share.value == pytest.approx(7 / 15)
    assert decomposition.parts["both"].share.low < 7 / 15 < decomposition.parts["both"].share.high
    ((pair, (estimate, p)),) = two_way_interactions(scores, ("a", "b")).items()
    assert pair == ("a", "b")
    assert estimate.value == pytest.approx(7)
    # Four cells with the variance 0.01 / 3 of their means each, 8 degrees of freedom.
    error = np.sqrt(4 * 0.01 / 3)
    assert 2 * stats.t.sf(7 / error, 8) < p == pytest.approx(2 / 924)  # ways to divide 12 seeds
    assert estimate.high - 7 == pytest.approx(stats.t.ppf(0.975, 8) * error)


def test_interaction_is_averaged_over_other_factors():
    scores = game(lambda a, b, c: 2 * a * b * (1 + c))
    values = {
        pair: each.value
        for pair, (each, _) in two_way_interactions(scores, ("a", "b", "c")).items()
    }
    assert values == pytest.approx({("a", "b"): 3, ("a", "c"): 1, ("b", "c"): 1})


def test_factorial_p_values_match_welch_test(normal):
    first, second = np.asarray(normal(1, 4), float), np.asarray(normal(2, 7), float) * 3 + 1
    cells = CellMeans.from_seeds([first, second])
    expected = stats.ttest_ind(second, first, equal_var=False).pvalue
    assert cells.p_two_sided(np.array([-1.0, 1.0])) == pytest.approx(expected)


def test_share_intervals_cover_truth():
    """Coverage: 300 studies of five seeds whose true share is a third."""
    generator, hits = np.random.default_rng(1), 0
    for _ in range(300):
        noise = generator.normal(size=(4, 5))
        scores = {
            cell: 10 * (cell[0] + cell[1] + cell[0] * cell[1]) + row
            for cell, row in zip(itertools.product((0, 1), repeat=2), noise, strict=True)
        }
        share = decompose_two_by_two(scores, ("a", "b"), "both", generator).parts["both"].share
        hits += share.low <= 1 / 3 <= share.high
    assert 0.91 < hits / 300 <= 1


def test_levels_are_first_and_last_value():
    scores = {(d, w): np.array([d, len(w)]) for d in (4, 8, 16) for w in ("old", "new")}
    assert set(code_two_levels(scores)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert code_two_levels(scores)[1, 0][0] == 16
    with pytest.raises(UserError, match="a factor has the one value 4"):
        code_two_levels({(4, "a"): NOISE, (4, "b"): NOISE})


def test_missing_cells_are_reported():
    scores = game(lambda a, b: a + b, 2)
    del scores[1, 0]
    with pytest.raises(UserError, match="1 of the 4 combinations of 2 factors have no finished"):
        decompose_two_by_two(scores, ("a", "b"), "both", GENERATOR)
    with pytest.raises(UserError, match="an interval needs at least two seeds and there is 1"):
        decompose_two_by_two(scores | {(1, 0): NOISE[:1]}, ("a", "b"), "both", GENERATOR)
