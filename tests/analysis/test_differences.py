"""Permutation tests by counting, their continuity, and Welch's intervals from scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kilolayer.analysis.differences import CellMeans, mean_difference, paired_difference
from kilolayer.analysis.statistics import improvement_p_value
from kilolayer.errors import UserError


def test_permutation_p_values_match_hand_computation():
    assert mean_difference(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])).p == pytest.approx(2 / 20)
    assert mean_difference(np.array([4.0, 5]), np.array([1.0, 2])).p == pytest.approx(2 / 6)
    assert mean_difference(np.zeros(3), np.array([5.0, 6, 7])).p == pytest.approx(2 / 20)
    assert mean_difference(np.zeros(3), np.zeros(4)).p == 1
    # Four of five seeds succeed against none: 6 of 252 permutations are as extreme, on each side.
    learns = np.array([1.0, 1, 1, 1, 0])
    assert mean_difference(learns, np.zeros(5)).p == pytest.approx(12 / 252)
    many = np.arange(20.0)
    assert mean_difference(many, many + 0.25).p > 0.5
    assert mean_difference(many, many + 30).p < 1e-3


def test_p_value_is_continuous_at_zero_variance():
    before, after = (
        mean_difference(np.ones(3), np.array([0, 0, moved])).p for moved in (0.0, 1e-9)
    )
    assert before == after == pytest.approx(0.1)
    weights = np.array([[-1.0, 1.0]])
    p = [
        CellMeans.from_seeds([np.array([0, 0, moved]), np.ones(3)]).p_above_zero(weights)[0]
        for moved in (0.0, 1e-9)
    ]
    assert p == pytest.approx([1 / 20, 1 / 20])


@given(st.integers(2, 6), st.integers(0, 99))
def test_contrast_p_value_is_bounded_by_number_of_permutations(seeds, seed):
    scores = np.random.default_rng(seed).integers(0, 2, size=(4, seeds)).astype(float)
    cells = CellMeans.from_seeds(list(scores))
    interaction = np.array([1.0, -1, -1, 1])
    least = 1 / stats.binom(4 * seeds, 0.5).pmf(2 * seeds) / 2.0 ** (4 * seeds)
    assert cells.p_above_zero(interaction[None])[0] >= least * (1 - 1e-9)
    assert 0 < cells.p_two_sided(interaction) <= 1


def test_mean_difference_has_welch_interval():
    generator = np.random.default_rng(0)
    scores, baseline = generator.normal(size=4), 3 * generator.normal(size=7) + 1
    both = stats.ttest_ind(scores, baseline, equal_var=False).confidence_interval(0.95)
    value = mean_difference(scores, baseline).estimate
    assert [value.low, value.high] == pytest.approx([both.low, both.high])
    assert (value.value, value.seeds) == (pytest.approx(scores.mean() - baseline.mean()), 4)


def test_paired_difference_uses_sign_flip_test():
    assert paired_difference(np.array([1.0, 2, 3])).p == pytest.approx(2 / 8)
    assert paired_difference(np.array([1.0, 2, 3, 4, 5])).p == pytest.approx(2 / 32)
    assert paired_difference(np.array([-1.0, 1])).p == 1
    assert paired_difference(np.array([1.0, 2, 3])).estimate.value == 2


@pytest.mark.parametrize("scores", [np.ones(1), np.array([1, np.nan])])
def test_mean_difference_refuses_invalid_scores(scores):
    for test in (lambda: mean_difference(scores, np.ones(3)), lambda: paired_difference(scores)):
        with pytest.raises(UserError, match=r"at least two seeds|not finite"):
            test()


def test_improvement_p_value_permutes_within_tasks():
    """Scores win on both tasks: 2 of 20 * 20 permutations are as extreme, for any offset of
    tasks."""
    scores, baseline = [np.array([4.0, 5, 6]), np.array([104.0, 105, 106])], [np.array([1.0, 2, 3])]
    baseline.append(np.array([101.0, 102, 103]))
    p = improvement_p_value(scores, baseline, np.random.default_rng(0))
    assert p == pytest.approx(2 / 400, abs=0.003)
