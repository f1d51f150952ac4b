"""Weighted sums of cell means; every cell has its own number of seeds and its own variance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kilolayer.analysis.statistics import CONFIDENCE, Estimate, checked


@dataclass(frozen=True)
class Cells:
    """mean, error `[..., cells]`: means and their standard errors; seeds `[cells]`, at least two.

    Leading axes hold independent repetitions of the whole study (simulations).
    """

    mean: np.ndarray
    error: np.ndarray
    seeds: np.ndarray

    @classmethod
    def from_seeds(cls, scores: Sequence[np.ndarray]) -> "Cells":
        """From every cell's scores `[seeds]`; raises UserError for a single seed."""
        rows = checked(scores)
        return cls(
            np.array([row.mean() for row in rows]),
            np.array([row.std(ddof=1) / np.sqrt(len(row)) for row in rows]),
            np.array([len(row) for row in rows]),
        )

    def p_above_zero(self, weights: np.ndarray) -> np.ndarray:
        """One-sided p-value of the null that each weighted sum of means is at most 0.

        weights `[contrasts, cells]` -> `[..., contrasts]`. Welch's test: each cell keeps its own
        variance, with Satterthwaite's degrees of freedom. Seeds that agree by chance give an error
        of 0. Therefore no p-value is below one over the number of ways to divide the seeds between
        cells of positive and of negative weight: 1/20 for three against three.
        """
        value, error, freedom = self._contrast(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = stats.t.sf(np.nan_to_num(value / error, nan=0.0), freedom)
        return np.maximum(p, self._least_p(weights))

    def p_not_zero(self, weights: np.ndarray) -> float:
        """Two-sided p-value of the null that one weighted sum, weights `[cells]`, is 0."""
        both = self.p_above_zero(np.stack([weights, -weights]))
        return float(min(1.0, 2 * both.min()))

    def estimate(self, weights: np.ndarray) -> Estimate:
        """A weighted sum of means, weights `[cells]`, with Welch's interval."""
        value, error, freedom = (float(part[0]) for part in self._contrast(weights[None]))
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error if error > 0 else 0.0
        return Estimate(value, value - margin, value + margin, int(self.seeds[weights != 0].min()))

    def _least_p(self, weights: np.ndarray) -> np.ndarray:
        """One over the ways to divide the seeds, or to flip signs if all weights have one sign."""
        counted, above = (weights != 0) @ self.seeds, (weights > 0) @ self.seeds
        one_way = (above == counted) | (above == 0)
        return np.where(one_way, 0.5**counted, 1 / special.comb(counted, above))

    def _contrast(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        square = self.error**2
        variance = square @ (weights**2).T
        spread = (square**2 / (self.seeds - 1)) @ (weights**4).T
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(spread > 0, variance**2 / spread, np.inf)
        return self.mean @ weights.T, np.sqrt(variance), freedom
