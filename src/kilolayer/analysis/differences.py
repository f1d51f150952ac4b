"""Differences and other contrasts of mean scores, with intervals and tests for few seeds.

Contrasts of several cells, each with its own number of seeds and its own variance, have Welch's
test. Differences of two groups have a permutation test, which assumes nothing about the
distribution of scores. The number of ways to divide the seeds
limits the smallest p-value: 0.1 for three against three, 0.008 for five against five.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from kilolayer.analysis.statistics import CONFIDENCE, Estimate, mean_interval, validated_scores

MAX_PERMUTATIONS = 20_000  # exact up to eight seeds against eight; beyond, this many are sampled
Statistic = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class CellMeans:
    """mean, error `[..., cells]`: means and their standard errors; seeds `[cells]`, at least two.

    Leading axes hold independent repetitions of the whole study (simulations).
    """

    mean: np.ndarray
    error: np.ndarray
    seeds: np.ndarray

    @classmethod
    def from_seeds(cls, scores: Sequence[np.ndarray]) -> "CellMeans":
        """From every cell's scores `[seeds]`; raises UserError for a single seed."""
        rows = validated_scores(scores)
        return cls(
            np.array([row.mean() for row in rows]),
            np.array([row.std(ddof=1) / np.sqrt(len(row)) for row in rows]),
            np.array([len(row) for row in rows]),
        )

    def p_above_zero(self, weights: np.ndarray) -> np.ndarray:
        """One-sided p-value of the null hypothesis that each contrast is at most 0.

        weights `[contrasts, cells]` -> `[..., contrasts]`. Welch's test: each cell keeps its own
        variance, with Satterthwaite's degrees of freedom. Seeds that agree by chance give a
        standard error of 0. Therefore no p-value is below one over the number of ways to divide
        the seeds between cells of positive and of negative weight: 1/20 for three against three.
        """
        value, error, degrees = self._contrasts(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = stats.t.sf(np.nan_to_num(value / error, nan=0.0), degrees)
        return np.maximum(p, self._smallest_p(weights))

    def p_two_sided(self, weights: np.ndarray) -> float:
        """Two-sided p-value of the null hypothesis that one contrast, `[cells]`, is 0."""
        both = self.p_above_zero(np.stack([weights, -weights]))
        return float(min(1.0, 2 * both.min()))

    def estimate(self, weights: np.ndarray) -> Estimate:
        """One contrast, weights `[cells]`, with Welch's interval."""
        value, error, degrees = (float(part[0]) for part in self._contrasts(weights[None]))
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error if error > 0 else 0.0
        return Estimate(value, value - margin, value + margin, int(self.seeds[weights != 0].min()))

    def _smallest_p(self, weights: np.ndarray) -> np.ndarray:
        """One over the ways to divide the seeds, or to flip signs if all weights have one sign."""
        used, positive = (weights != 0) @ self.seeds, (weights > 0) @ self.seeds
        one_sign = (positive == used) | (positive == 0)
        return np.where(one_sign, 0.5**used, 1 / special.comb(used, positive))

    def _contrasts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, standard errors and degrees of freedom."""
        squares = self.error**2
        variance = squares @ (weights**2).T
        denominator = (squares**2 / (self.seeds - 1)) @ (weights**4).T
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.where(denominator > 0, variance**2 / denominator, np.inf)
        return self.mean @ weights.T, np.sqrt(variance), degrees


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval; p: two-sided, of no difference."""

    estimate: Estimate
    p: float


def mean_difference(scores: np.ndarray, baseline: np.ndarray) -> Difference:
    """Mean of `scores [seeds]` minus the mean of `baseline [seeds]`, with Welch's interval; raises
    UserError for a single seed and for scores that are not finite."""
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
