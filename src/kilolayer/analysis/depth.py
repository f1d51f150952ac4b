"""What depth does to the score of one task: where it jumps, where it saturates, whether it falls.

A jump is a step between neighbouring depths that brings more than half of what depth brings in all.
A straight line in log2 depth over four doublings brings a quarter with each; a logistic curve that
takes two doublings or more to rise from 10 to 90 percent brings at most half of its rise with one.
So the test holds for all such smooth trends at once and needs no formula for them.
"""

from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.depth_scores import DepthScores, difference
from kilolayer.analysis.statistics import CONFIDENCE, Estimate
from kilolayer.types import UserError

MAJORITY = 0.5
TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class CriticalDepth:
    """The step that stands out most, from `shallower` to `depth`.

    gain: what it adds to the score. share: that gain over the largest gain across the step, in 0 to
    1. p_jump: p-value of "no step brings more than half". p_spread: p-value of "some step brings
    half or more". whole_gain: from the shallowest depth to the deepest.
    """

    shallower: int
    depth: int
    gain: Estimate
    share: Estimate
    whole_gain: Estimate
    p_jump: float
    p_spread: float


@dataclass(frozen=True)
class Saturation:
    """The shallowest depth within `share` of the best score, with its 95 % interval in depths.

    low: no shallower depth can be within it. high: the shallowest depth that certainly is, or the
    deepest one studied (`deepest`) where none is certain.
    """

    depth: int
    low: int
    high: int
    share: float
    deepest: int
    seeds: int


@dataclass(frozen=True)
class Monotonicity:
    """Whether the score rises with every step, and the clearest fall with depth.

    p_rise: p-value of "some step does not rise". p_fall: p-value of "the score never falls with
    depth", corrected for the number of pairs; `change` is that of the clearest pair.
    """

    p_rise: float
    p_fall: float
    shallower: int
    deeper: int
    change: Estimate


def critical_depth(scores: DepthScores) -> CriticalDepth:
    """Find and test the jump; raises UserError for fewer than three depths.

    A step wider than half the range studied (in log2 depth) must bring more than its width.
    """
    p_jump, count = jump_p_values(scores), len(scores.depth)
    step = int(p_jump.argmin()) + 1
    spread = [
        difference(count, k - 1, k) + threshold * difference(count, -1, 0)
        for k, threshold in enumerate(_thresholds(scores), start=1)
    ]
    return CriticalDepth(
        shallower=int(scores.depth[step - 1]),
        depth=int(scores.depth[step]),
        gain=scores.estimate(difference(count, step, step - 1)),
        share=_share(scores, step),
        whole_gain=scores.estimate(difference(count, -1, 0)),
        p_jump=float(p_jump.min()),
        p_spread=float(scores.p_above_zero(np.array(spread)).max()),
    )


def jump_p_values(scores: DepthScores) -> np.ndarray:
    """p-value of "this step brings no more than half" for every step, `[..., depths - 1]`.

    A step passes only if it brings more than half of the gain across every span that contains it:
    an intersection of Welch tests, so it needs no correction for their number, and what happens
    elsewhere, falls included, cannot make a jump. Two steps can pass only if the score falls in
    between; where a straight line alone gives two steps half each (three depths), p is doubled.
    """
    if len(scores.depth) < 3:
        raise UserError(
            f"a critical depth needs at least three depths and there are "
            f"{scores.depth.tolist()}: add depths to the study."
        )
    thresholds = _thresholds(scores)
    p = [
        _step_p_values(scores, k, np.array([share])) for k, share in enumerate(thresholds, start=1)
    ]
    halves = max(1, int((_widths(scores) >= MAJORITY).sum()))
    return np.minimum(1, halves * np.concatenate(p, -1))


def saturation_depth(scores: DepthScores, share: float = 0.9) -> Saturation:
    """The shallowest depth whose score is at least `share` of the best depth's.

    Its interval comes from Welch tests of each depth against that share of every other one.
    Raises UserError unless share lies in (0, 1) and the best score is positive.
    """
    if not 0 < share < 1:
        raise UserError(f"share = {share} is not allowed: it lies between 0 and 1, such as 0.9.")
    best, count = scores.mean.max(), len(scores.depth)
    if best <= 0:
        raise UserError("no depth has a positive score: there is no share of it to speak of.")
    reached = scores.mean >= share * best
    possible, certain = np.ones(count, bool), np.ones(count, bool)
    certain[:-1] = possible[:-1] = False
    for k in range(count - 1):
        over = np.array([difference(count, k, j, share) for j in range(count) if j != k])
        possible[k] = scores.p_above_zero(-over).min() >= TAIL / (count - 1)
        certain[k] = scores.p_above_zero(over).max() < TAIL
    depth, low, high = (int(scores.depth[mask.argmax()]) for mask in (reached, possible, certain))
    return Saturation(depth, low, high, share, int(scores.depth[-1]), int(scores.seeds.min()))


def monotonicity(scores: DepthScores) -> Monotonicity:
    """Test whether the score rises with every step and whether it falls anywhere."""
    count = len(scores.depth)
    if count < 2:
        raise UserError("a trend needs at least two depths: add depths to the study.")
    rises = np.array([difference(count, k, k - 1) for k in range(1, count)])
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    p_falls = scores.p_above_zero(np.array([difference(count, i, j) for i, j in pairs]))
    i, j = pairs[int(p_falls.argmin())]
    return Monotonicity(
        p_rise=float(scores.p_above_zero(rises).max()),
        p_fall=min(1.0, len(pairs) * float(p_falls.min())),
        shallower=int(scores.depth[i]),
        deeper=int(scores.depth[j]),
        change=scores.estimate(difference(count, j, i)),
    )


def _widths(scores: DepthScores) -> np.ndarray:
    """Each step's share of the range studied, in log2 depth: what a straight line would bring."""
    steps = np.diff(np.log2(scores.depth))
    return steps / steps.sum()


def _thresholds(scores: DepthScores) -> np.ndarray:
    return np.maximum(MAJORITY, _widths(scores))


def _step_p_values(scores: DepthScores, step: int, shares: np.ndarray) -> np.ndarray:
    """p-value of the step bringing no more than each share, `[..., shares]`."""
    count = len(scores.depth)
    spans = np.array(
        [difference(count, last, first) for first in range(step) for last in range(step, count)]
    )
    over = difference(count, step, step - 1) - shares[:, None, None] * spans
    p = scores.p_above_zero(over.reshape(-1, count))
    return p.reshape(*p.shape[:-1], len(shares), len(spans)).max(-1)


def _share(scores: DepthScores, step: int) -> Estimate:
    """The interval holds every share that the tests do not reject at 2.5 % on either side."""
    count, mean = len(scores.depth), scores.mean
    gain, whole = mean[step] - mean[step - 1], mean[step:].max() - mean[:step].min()
    value = float(np.clip(gain / whole, 0, 1)) if whole > 0 else 0.0
    shares = np.linspace(0, 1, 201)
    too_low = shares[_step_p_values(scores, step, shares) < TAIL]
    below = difference(count, step - 1, step) + shares[:, None] * difference(count, -1, 0)
    too_high = shares[scores.p_above_zero(below) < TAIL]
    low, high = max(too_low, default=0.0), min(too_high, default=1.0)
    return Estimate(value, float(low), float(high), int(scores.seeds.min()))
