"""Power analysis and information of the learning signal, with known values."""

import numpy as np
import pytest
from scipy import stats

from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.feedback import bernoulli_entropy, feedback
from kilolayer.analysis.power import power_of_difference, seeds_for_power, seeds_needed
from kilolayer.errors import UserError


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_seeds_for_common_effect_sizes(effect, seeds):
    """Cohen's table for 80 % power at 5 %, two-sided (1988, table 2.4.1: 393, 64, 26)."""
    assert seeds_for_power(effect) == pytest.approx(seeds, abs=1)
    assert power_of_difference(effect, seeds_for_power(effect)) >= 0.8
    assert power_of_difference(effect, seeds_for_power(effect) - 1) < 0.8


@pytest.mark.parametrize("effect", [0.05, 0.04])
def test_seeds_for_small_effects_match_normal_approximation(effect):
    """Normal approximation: n = 2 (z_0.975 + z_0.8)^2 / d^2, up to the stated 10,000 seeds."""
    closed = 2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 / effect**2
    assert seeds_for_power(effect) == pytest.approx(closed, rel=1e-3)
    assert seeds_for_power(0.039) is None


def test_power_without_difference_is_the_level():
    assert power_of_difference(0, 5) == pytest.approx(0.05)
    assert seeds_for_power(0) is None


@pytest.mark.parametrize("seeds", [4, 5, 100])
@pytest.mark.parametrize("effect", [20.0, 33.0, 66.0, 1000.0])
def test_large_effect_has_power_one(effect, seeds):
    """Effects for which scipy cannot compute the noncentral t distribution."""
    assert 0.9 < power_of_difference(effect, seeds) <= 1


def test_power_matches_simulated_permutation_test():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 400, 5)) + np.array([0, 1.5])[:, None, None]
    found = [mean_difference(a, b).p <= 0.05 for a, b in zip(first, second, strict=True)]
    assert np.mean(found) == pytest.approx(power_of_difference(1.5, 5), abs=0.08)


def test_three_seeds_per_group_have_no_power_at_five_percent():
    """Their smallest p-value is 2 of 20 permutations."""
    assert power_of_difference(1000.0, 3) == 0
    assert seeds_for_power(1000.0) == 4


def test_seeds_needed_from_existing_runs():
    """Both standard deviations are 1 and the means differ by 2."""
    found = seeds_needed(np.array([4.0, 5, 6]), np.array([2.0, 3, 4]))
    assert found.effect == found.effect_size == 2
    assert found.seeds == seeds_for_power(2)
    assert found.power == 0
    half = seeds_needed(np.array([4.0, 5, 6]), np.array([2.0, 3, 4]), share=0.5)
    assert half.seeds is not None
    assert half.seeds > 2 * (found.seeds or 0)
    with pytest.raises(UserError, match="all seeds have equal scores"):
        seeds_needed(np.ones(3), np.zeros(3))
    with pytest.raises(UserError, match="all seeds have equal scores"):
        seeds_needed(np.full(6, 0.1), np.full(6, 0.2))  # their deviation is 1e-17


def test_feedback_bits_match_hand_computation():
    """Batch 8: at most 3 bits. Loss log 2 gives 2 bits, loss log 16 gives 0 and not -1."""
    found = feedback(
        updates=np.array([10.0, 30.0]),
        loss=np.log([2.0, 16.0]),
        success=np.array([0.5, 1.0]),
        batch_size=8,
    )
    assert found.contrastive.tolist() == pytest.approx([10 * 8 * 2, 10 * 8 * 2])
    assert found.bound.tolist() == pytest.approx([10 * 8 * 3, 30 * 8 * 3])
    assert found.reward.tolist() == pytest.approx([80, 80])
    assert bernoulli_entropy(np.array([0.11])) == pytest.approx(0.4999, abs=1e-3)
