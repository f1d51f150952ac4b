"""Weighted sums of the means of several cells, each with seeds and a spread of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kilolayer.analysis.statistics import CONFIDENCE, Estimate, checked


@dataclass(frozen=True)
class Cells:
    """mean, error `[..., cells]`: means and their standard errors; seeds `[cells]`, two at least.

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
        """One-sided p-value of each weighted sum of means being no more than 0.

        weights `[contrasts, cells]` -> `[..., contrasts]`. Welch's test: each cell keeps its own
        variance, degrees of freedom after Satterthwaite. Where no seed differs from another, which
        bounded scores allow, it is the sign test's value of as many seeds: 1/8 for three.
        """
        value, error, freedom = self._contrast(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = stats.t.sf(value / error, freedom)
        fewest = np.where(weights != 0, self.seeds, self.seeds.max()).min(-1)
        return np.where(error > 0, p, np.where(value > 0, 0.5**fewest, 1.0))

    def p_not_zero(self, weights: np.ndarray) -> float:
        """Two-sided p-value of one weighted sum, weights `[cells]`, being 0."""
        both = self.p_above_zero(np.stack([weights, -weights]))
        return float(min(1.0, 2 * both.min()))

    def estimate(self, weights: np.ndarray) -> Estimate:
        """A weighted sum of means, weights `[cells]`, with Welch's interval."""
        value, error, freedom = (float(part[0]) for part in self._contrast(weights[None]))
        margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error if error > 0 else 0.0
        return Estimate(value, value - margin, value + margin, int(self.seeds[weights != 0].min()))

    def _contrast(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        square = self.error**2
        variance = square @ (weights**2).T
        spread = (square**2 / (self.seeds - 1)) @ (weights**4).T
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(spread > 0, variance**2 / spread, np.inf)
        return self.mean @ weights.T, np.sqrt(variance), freedom
