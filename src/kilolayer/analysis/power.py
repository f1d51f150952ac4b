"""Power analysis: how many seeds a test between two depths needs, from existing runs."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kilolayer.analysis.statistics import validated_scores
from kilolayer.errors import UserError

LEVEL, POWER = 0.05, 0.8
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class SeedsNeeded:
    """effect: the difference of means to detect, in score units. effect_size: the same divided by
    the standard deviation over seeds (Cohen's d). seeds: per depth, for a power of 80 %; None
    beyond 10,000. power: with the existing seeds.
    """

    effect: float
    effect_size: float
    seeds: int | None
    power: float


def power_of_difference(effect_size: float, seeds: int) -> float:
    """Probability that the two-sided test of two groups of `seeds` each detects the difference.

    effect_size: difference of means over the standard deviation of a group (Cohen's d). The power
    is that of Student's t test for normal scores of equal variance (the noncentral t distribution);
    the permutation test is close to it. The power is 0 if the seeds can be divided in too few ways.
    """
    if 2 / special.comb(2 * seeds, seeds) > LEVEL:
        return 0.0
    degrees, centre = 2 * (seeds - 1), abs(effect_size) * np.sqrt(seeds / 2)
    bound = stats.t.ppf(1 - LEVEL / 2, degrees)
    above, below = stats.nct.sf(bound, degrees, centre), stats.nct.cdf(-bound, degrees, centre)
    # For large effects scipy returns nan; the whole distribution then lies above the bound.
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0))


def seeds_for_power(effect_size: float) -> int | None:
    """The smallest number of seeds per group with a power of `POWER`; None beyond `MOST_SEEDS`."""
    counts = range(MOST_SEEDS + 1)
    found = bisect_left(counts, POWER, key=lambda n: power_of_difference(effect_size, n))
    return found if found <= MOST_SEEDS else None


def seeds_needed(scores: np.ndarray, baseline: np.ndarray, share: float = 1.0) -> SeedsNeeded:
    """Seeds needed to detect `share` of the observed difference of means of two cells `[seeds]`.

    The standard deviation is pooled over both cells. Raises UserError for a single seed and where
    no seed differs.
    """
    scores, baseline = validated_scores([scores, baseline])
    if np.ptp(scores) == np.ptp(baseline) == 0:
        raise UserError("all seeds have equal scores, so the number of seeds cannot be computed.")
    variance = ((len(scores) - 1) * scores.var(ddof=1)) + (len(baseline) - 1) * baseline.var(ddof=1)
    deviation = np.sqrt(variance / (len(scores) + len(baseline) - 2))
    effect = share * float(scores.mean() - baseline.mean())
    effect_size = effect / float(deviation)
    power = power_of_difference(effect_size, min(len(scores), len(baseline)))
    return SeedsNeeded(effect, effect_size, seeds_for_power(effect_size), power)
