"""Differences between groups of runs, with intervals and permutation tests for few seeds.

The tests assume nothing about the distribution of scores. The number of ways to divide the seeds
limits the smallest p-value: 0.1 for three against three, 0.008 for five against five.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from kilolayer.analysis.statistics import CONFIDENCE, Estimate, checked, mean_interval

MOST_DIVISIONS = 20_000  # exact up to eight seeds against eight; beyond, this many are sampled
Statistic = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Difference:
    """A change with its 95 % interval; p: two-sided, of no change."""

    value: Estimate
    p: float


def difference(scores: np.ndarray, baseline: np.ndarray) -> Difference:
    """Mean of `scores [seeds]` minus the mean of `baseline [seeds]`, with Welch's interval.

    Raises UserError for a single seed and for scores that are not finite.
    """
    scores, baseline = checked([scores, baseline])
    value = float(scores.mean() - baseline.mean())
    squares = [row.var(ddof=1) / len(row) for row in (scores, baseline)]
    freedom = [len(scores) - 1, len(baseline) - 1]
    spread = sum(each**2 / one for each, one in zip(squares, freedom, strict=True))
    # Satterthwaite's degrees of freedom. Two constant rows have none, and their margin is 0.
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, sum(squares) ** 2 / spread) if spread else 0.0
    margin = float(quantile * np.sqrt(sum(squares)))
    fewest = min(len(scores), len(baseline))
    found = Estimate(value, value - margin, value + margin, fewest)
    return Difference(found, float(permutation_p(scores, baseline, difference_of_means)))


def gain(changes: np.ndarray) -> Difference:
    """Mean change of single runs `[seeds]`, with Student's interval and a sign-flip test."""
    (changes,) = checked([changes])
    return Difference(mean_interval(changes), float(sign_p(changes)))


def permutation_p(first: np.ndarray, second: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Two-sided p-value `[...]` of the null that both `[..., seeds]` have one distribution.

    Exact, ties included, if there are at most 20,000 ways to divide the seeds.
    """
    return _permuted((first, second), statistic, "independent")


def sign_p(changes: np.ndarray) -> np.ndarray:
    """Two-sided p-value `[...]` of the null that the signs of changes `[..., seeds]` are random."""
    return _permuted((changes, np.zeros_like(changes)), difference_of_means, "samples")


def difference_of_means(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    return first.mean(axis) - second.mean(axis)


def _permuted(
    rows: tuple[np.ndarray, np.ndarray],
    statistic: Statistic,
    kind: Literal["independent", "samples"],
) -> np.ndarray:
    found = stats.permutation_test(
        rows,
        statistic,
        permutation_type=kind,
        n_resamples=MOST_DIVISIONS,
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(found.pvalue)
