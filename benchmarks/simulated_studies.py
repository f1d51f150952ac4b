"""Simulated studies of depth with known truth, for `benchmarks.error_rates`."""

from collections.abc import Callable

import numpy as np

from kilolayer.analysis.depth import DepthScores

STEPS = np.arange(5)  # doublings of depth 4
Studies = np.ndarray
"""Scores `[studies, cells, seeds]`."""


def logistic(width: float, centre: float) -> np.ndarray:
    """Rises from 10 to 90 percent within `width` doublings around `centre` doublings of 4."""
    return 1 / (1 + np.exp(-2 * np.log(9) / width * (STEPS - centre)))


# Mean scores by depth, up to scale, none of which has a jump. The last four are the worst of all
# 583 that take steps of a quarter and lie on the edge of having one.
NO_JUMP = {
    "straight line": STEPS / 4.0,
    "flat": np.zeros(5),
    "falling line": 1 - STEPS / 4.0,
    "saturating, each gain 0.6 of the last": 1 - 0.6**STEPS,
    "S-curve over 3 doublings": logistic(3, 1.5),
    "rise, then fall": np.array([0, 0.35, 0.7, 0.7, 0.3]),
    "sawtooth from below": np.array([0.0, 1, 0, 1, 0]),
    "sawtooth from above": np.array([1.0, 0, 1, 0, 1]),
    "single peak": np.array([0.0, 0, 1, 0, 0]),
    "two equal gains": np.array([0, 0.5, 0.5, 0.5, 1]),
    "two equal gains, a fall between": np.array([0, 0.5, 0.25, 0.75, 1]),
    "a fall, then two gains": np.array([0, -0.5, 0.25, 0.25, 1]),
    "a fall, then a rise": np.array([0, -0.25, -0.5, 0.25, 1]),
}


def jump(share: float, step: int) -> np.ndarray:
    """A straight line with one step, in front of depth `step`, that brings `share` of the gain."""
    gains = np.full(4, (1 - share) / 3)
    gains[step - 1] = share
    return np.concatenate([[0], gains.cumsum()])


def simulate(
    mean: np.ndarray, spread: float, seeds: int, repeats: int, generator: np.random.Generator
) -> DepthScores:
    """Whole studies, each seed normal around the mean with a SD of `spread`."""
    return by_depth(mean[:, None] + spread * generator.normal(size=(repeats, len(mean), seeds)))


def by_depth(scores: Studies) -> DepthScores:
    """Studies of neighbouring depths as one value with a leading axis."""
    depths, seeds = scores.shape[-2:]
    error = scores.std(-1, ddof=1) / np.sqrt(seeds)
    return DepthScores(4 * 2 ** np.arange(depths), scores.mean(-1), error, np.full(depths, seeds))


# Seeds around means in units of their SD, `(means [cells], shape) -> [studies, cells, seeds]`.
Noise = Callable[[np.ndarray, tuple[int, ...], np.random.Generator], Studies]


def normal(means: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> Studies:
    return means[:, None] + generator.normal(size=shape)


def skewed(means: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> Studies:
    return means[:, None] + generator.exponential(size=shape) - 1


def unequal(means: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> Studies:
    """The last cell has three times the SD of the first."""
    spread = np.linspace(0.5, 1.5, len(means))[:, None]
    return means[:, None] + spread * generator.normal(size=shape)


def learns(means: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> Studies:
    """Every seed scores 1 or 0; the chance goes from 0.1 to 0.9 with the mean, or is a half."""
    span = np.ptp(means)
    chance = 0.1 + 0.8 * (means - means.min()) / span if span else np.full(len(means), 0.5)
    return (generator.uniform(size=shape) < chance[:, None]).astype(float)


NOISES: dict[str, Noise] = {
    "normal": normal, "skewed": skewed, "unequal SD": unequal, "binary": learns,
}  # fmt: skip
