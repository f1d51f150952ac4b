"""Differences of mean scores, with intervals and permutation tests for few seeds.

The tests assume nothing about the distribution of scores. The number of ways to divide the seeds
limits the smallest p-value: 0.1 for three against three, 0.008 for five against five.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from kilolayer.analysis.contrasts import CellMeans
from kilolayer.analysis.statistics import Estimate, mean_interval, validated_scores

MAX_PERMUTATIONS = 20_000  # exact up to eight seeds against eight; beyond, this many are sampled
Statistic = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval; p: two-sided, of no difference."""

    estimate: Estimate
    p: float


def mean_difference(scores: np.ndarray, baseline: np.ndarray) -> Difference:
    """Mean of `scores [seeds]` minus the mean of `baseline [seeds]`, with Welch's interval.

    Raises UserError for a single seed and for scores that are not finite.
    """
    scores, baseline = validated_scores([scores, baseline])
    estimate = CellMeans.from_seeds([scores, baseline]).estimate(np.array([1.0, -1.0]))
    return Difference(estimate, float(permutation_p_value(scores, baseline, difference_of_means)))


def paired_difference(changes: np.ndarray) -> Difference:
    """Mean of paired differences `[seeds]`, with Student's interval and a sign-flip test."""
    (changes,) = validated_scores([changes])
    return Difference(mean_interval(changes), float(sign_flip_p_value(changes)))


def permutation_p_value(first: np.ndarray, second: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Two-sided p-value `[...]` of the null hypothesis that both `[..., seeds]` are exchangeable.

    Exact, ties included, if there are at most 20,000 ways to divide the seeds.
    """
    return _permutation_test((first, second), statistic, "independent")


def sign_flip_p_value(changes: np.ndarray) -> np.ndarray:
    """Two-sided p-value `[...]` of the null hypothesis that changes `[..., seeds]` have random
    signs."""
    return _permutation_test((changes, np.zeros_like(changes)), difference_of_means, "samples")


def difference_of_means(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    return first.mean(axis) - second.mean(axis)


def _permutation_test(
    rows: tuple[np.ndarray, np.ndarray],
    statistic: Statistic,
    kind: Literal["independent", "samples"],
) -> np.ndarray:
    result = stats.permutation_test(
        rows,
        statistic,
        permutation_type=kind,
        n_resamples=MAX_PERMUTATIONS,
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(result.pvalue)
