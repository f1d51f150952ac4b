"""Tests of differences by counting, their continuity, and Welch's intervals by scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kilolayer.analysis.contrasts import Cells
from kilolayer.analysis.differences import difference, gain
from kilolayer.analysis.statistics import improvement_p
from kilolayer.types import UserError


def test_p_values_are_shares_of_the_ways_to_divide_the_seeds():
    assert difference(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])).p == pytest.approx(2 / 20)
    assert difference(np.array([4.0, 5]), np.array([1.0, 2])).p == pytest.approx(2 / 6)
    assert difference(np.zeros(3), np.array([5.0, 6, 7])).p == pytest.approx(2 / 20)
    assert difference(np.zeros(3), np.zeros(4)).p == 1
    # Of five, four learn against none: 6 of 252 divisions do as well, on either side.
    learns = np.array([1.0, 1, 1, 1, 0])
    assert difference(learns, np.zeros(5)).p == pytest.approx(12 / 252)
    many = np.arange(20.0)
    assert difference(many, many + 0.25).p > 0.5
    assert difference(many, many + 30).p < 1e-3


def test_seeds_that_agree_are_no_more_certain_for_being_moved_a_little():
    before, after = (difference(np.ones(3), np.array([0, 0, moved])).p for moved in (0.0, 1e-9))
    assert before == after == pytest.approx(0.1)
    weights = np.array([[-1.0, 1.0]])
    p = [
        Cells.from_seeds([np.array([0, 0, moved]), np.ones(3)]).p_above_zero(weights)[0]
        for moved in (0.0, 1e-9)
    ]
    assert p == pytest.approx([1 / 20, 1 / 20])


@given(st.integers(2, 6), st.integers(0, 99))
def test_no_contrast_is_more_certain_than_its_seeds_can_be_divided(seeds, seed):
    scores = np.random.default_rng(seed).integers(0, 2, size=(4, seeds)).astype(float)
    cells = Cells.from_seeds(list(scores))
    interaction = np.array([1.0, -1, -1, 1])
    least = 1 / stats.binom(4 * seeds, 0.5).pmf(2 * seeds) / 2.0 ** (4 * seeds)
    assert cells.p_above_zero(interaction[None])[0] >= least * (1 - 1e-9)
    assert 0 < cells.p_not_zero(interaction) <= 1


def test_the_interval_of_a_difference_is_welchs():
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(size=4), 3 * generator.normal(size=7) + 1
    both = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    value = difference(ours, theirs).value
    assert [value.low, value.high] == pytest.approx([both.low, both.high])
    assert (value.value, value.seeds) == (pytest.approx(ours.mean() - theirs.mean()), 4)


def test_the_gain_of_single_runs_is_tested_by_their_signs():
    assert gain(np.array([1.0, 2, 3])).p == pytest.approx(2 / 8)
    assert gain(np.array([1.0, 2, 3, 4, 5])).p == pytest.approx(2 / 32)
    assert gain(np.array([-1.0, 1])).p == 1
    assert gain(np.array([1.0, 2, 3])).value.value == 2


@pytest.mark.parametrize("scores", [np.ones(1), np.array([1, np.nan])])
def test_what_cannot_be_tested_is_one_sentence(scores):
    for test in (lambda: difference(scores, np.ones(3)), lambda: gain(scores)):
        with pytest.raises(UserError, match=r"at least two seeds|not finite"):
            test()


def test_runs_are_divided_within_their_task_alone():
    """Ours wins on both tasks: 2 of 20 * 20 divisions are as extreme, however far tasks lie."""
    ours, theirs = [np.array([4.0, 5, 6]), np.array([104.0, 105, 106])], [np.array([1.0, 2, 3])]
    theirs.append(np.array([101.0, 102, 103]))
    p = improvement_p(ours, theirs, np.random.default_rng(0))
    assert p == pytest.approx(2 / 400, abs=0.003)
