"""Scores at several depths of one task, and tests of contrasts between them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.contrasts import CellMeans
from kilolayer.types import UserError


@dataclass(frozen=True)
class DepthScores:
    """Final scores of one task by depth, in any unit in which more is better.

    depth, seeds `[depths]`; mean and its standard error `[..., depths]`, where leading axes hold
    independent repetitions of the whole study (simulations). Depths rise. Raises UserError for a
    single seed, depths that do not rise, and values that are not finite.
    """

    depth: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    seeds: np.ndarray

    def __post_init__(self) -> None:
        shape = self.depth.shape
        if not (self.mean.shape == self.error.shape and self.mean.shape[-1:] == shape):
            raise UserError("every depth needs one mean and one standard error.")
        if self.seeds.shape != shape or (self.seeds < 2).any():
            raise UserError(
                f"an interval needs at least two seeds at every depth, and there are "
                f"{self.seeds.tolist()}: run more seeds."
            )
        if (np.diff(self.depth) <= 0).any() or (self.depth < 1).any():
            raise UserError(f"depths must be positive and rise; they are {self.depth.tolist()}.")
        if not (np.isfinite(self.mean).all() and (self.error >= 0).all()):
            raise UserError("a score is not finite: exclude its run and say so.")

    @classmethod
    def from_seeds(cls, scores: Mapping[int, np.ndarray]) -> "DepthScores":
        """From the final score of every seed, `{depth: [seeds]}`."""
        depths = sorted(scores)
        cells = CellMeans.from_seeds([scores[depth] for depth in depths])
        return cls(np.array(depths), cells.mean, cells.error, cells.seeds)

    @property
    def cells(self) -> CellMeans:
        """The means for tests of contrasts."""
        return CellMeans(self.mean, self.error, self.seeds)


def depth_contrast(depths: int, deeper: int, shallower: int, share: float = 1.0) -> np.ndarray:
    """Weights `[depths]` of `mean[deeper] - share * mean[shallower]`, both given as indices."""
    weights = np.zeros(depths)
    weights[deeper] += 1
    weights[shallower] -= share
    return weights
