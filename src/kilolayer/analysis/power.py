"""How many seeds a claim needs: the power of the test between two depths, from existing runs."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kilolayer.analysis.statistics import checked
from kilolayer.types import UserError

LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class SeedsNeeded:
    """effect: the difference of means to detect, in score units. standardised: the same divided by
    the standard deviation over seeds. seeds: per depth, for a power of 80 %; None beyond 10,000.
    power: with the existing seeds.
    """

    effect: float
    standardised: float
    seeds: int | None
    power: float


def power_of_difference(standardised: float, seeds: int, level: float = LEVEL) -> float:
    """Chance that the two-sided test of two groups of `seeds` each finds the difference.

    standardised: difference of means over the standard deviation of a group (Cohen's d). The power
    is that of Student's t test for normal scores of equal spread (the noncentral t distribution);
    the permutation test is close to it. The power is 0 if the seeds can be divided in too few ways.
    """
    if seeds < 2:
        raise UserError("a test needs at least two seeds on either side: run more seeds.")
    if 2 / special.comb(2 * seeds, seeds) > level:
        return 0.0
    freedom, centre = 2 * (seeds - 1), abs(standardised) * np.sqrt(seeds / 2)
    bound = stats.t.ppf(1 - level / 2, freedom)
    above, below = stats.nct.sf(bound, freedom, centre), stats.nct.cdf(-bound, freedom, centre)
    # Far out scipy returns nan. The whole distribution lies above the bound there.
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0))


def seeds_for_power(standardised: float, power: float = POWER, level: float = LEVEL) -> int | None:
    """The smallest number of seeds per group with this power, or None beyond `MOST_SEEDS`."""
    low, high = 1, 2
    while power_of_difference(standardised, high, level) < power:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_difference(standardised, middle, level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def seeds_needed(scores: np.ndarray, baseline: np.ndarray, share: float = 1.0) -> SeedsNeeded:
    """Seeds needed to detect `share` of the observed difference of means of two cells `[seeds]`.

    The standard deviation is pooled over both cells. Raises UserError for a single seed and where
    no seed differs.
    """
    scores, baseline = checked([scores, baseline])
    variance = ((len(scores) - 1) * scores.var(ddof=1)) + (len(baseline) - 1) * baseline.var(ddof=1)
    spread = np.sqrt(variance / (len(scores) + len(baseline) - 2))
    if spread == 0:
        raise UserError("no seed differs from another, so their number cannot be worked out.")
    effect = share * float(scores.mean() - baseline.mean())
    standardised = effect / float(spread)
    here = min(len(scores), len(baseline))
    return SeedsNeeded(
        effect, standardised, seeds_for_power(standardised), power_of_difference(standardised, here)
    )
