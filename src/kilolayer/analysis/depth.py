"""The effect of depth on the score of one task: jumps, saturation and falls.

A jump is a step between neighbouring depths that brings more than half of the total gain from
depth, and that no deeper network loses again. Smooth trends have no jump: a straight line in log2
depth over four doublings gains a quarter with each, and a logistic curve that takes two doublings
or more to rise from 10 to 90 percent gains at most half of its rise with one. The test holds for
all such smooth trends and needs no formula for them.
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
    """The step from `shallower` to `depth` that is most likely a jump.

    share: the gain of the step divided by the largest gain across it, in 0 to 1. p_jump: p-value of
    "no step is a jump". p_spread: p-value of "some step brings at least half of the total gain".
    """

    shallower: int
    depth: int
    share: Estimate
    p_jump: float
    p_spread: float


@dataclass(frozen=True)
class Saturation:
    """The shallowest depth that reaches `share` of the best score, with its 95 % interval.

    low: every shallower depth certainly misses the share. high: the shallowest depth that certainly
    reaches the share, or the deepest one studied (`deepest`) if none is certain. p: p-value of
    "another depth is the shallowest one".
    """

    depth: Estimate
    share: float
    deepest: int
    p: float


@dataclass(frozen=True)
class Change:
    """Change of the score between two depths; p: one-sided."""

    shallower: int
    deeper: int
    value: Estimate
    p: float


@dataclass(frozen=True)
class Monotonicity:
    """Whether the score rises with every step in depth or falls anywhere.

    rise: the least certain step; its p is that of "some step does not rise". fall: the clearest
    fall; its p is that of "the score never falls with depth", corrected for the number of pairs.
    """

    rise: Change
    fall: Change


def critical_depth(scores: DepthScores) -> CriticalDepth:
    """Find and test the jump; raises UserError for fewer than three depths.

    Each p-value may be judged at the full level, since one of the two hypotheses is always true.

    A step wider than half the range studied (in log2 depth) must bring more than its share of that
    range.
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
        share=_share(scores, step),
        p_jump=min(1.0, float(p_jump.min())),
        p_spread=float(scores.p_above_zero(np.array(spread)).max()),
    )


def jump_p_values(scores: DepthScores) -> np.ndarray:
    """p-value of "this step is no jump" for every step, `[..., depths - 1]`.

    A jump brings more than half of the gain across every span that contains it. A jump also lasts:
    every depth after it scores above every depth before it. Both conditions are intersections of
    Welch tests, which need no correction for their number. p is doubled for the choice among steps,
    since at most two steps can bring half each. No simulated trend with more candidate steps gave
    false jumps more often (`results/statistics`). Values above 1 are kept to preserve the order of
    the steps.
    """
    if len(scores.depth) < 3:
        raise UserError(
            f"a critical depth needs at least three depths and there are "
            f"{scores.depth.tolist()}: add depths to the study."
        )
    p = [
        np.maximum(
            _step_p_values(scores, k, np.array([share]))[..., 0],
            scores.p_above_zero(_spans(len(scores.depth), k)).max(-1),
        )
        for k, share in enumerate(_thresholds(scores), start=1)
    ]
    return 2 * np.stack(p, -1)


def saturation_depth(scores: DepthScores, share: float = 0.9) -> Saturation:
    """The shallowest depth whose score is at least `share` of the best score.

    Its interval comes from Welch tests of each depth's mean against `share` of every other mean.
    Raises UserError unless share lies in (0, 1) and the best score is positive.
    """
    if not 0 < share < 1:
        raise UserError(f"share = {share} is not allowed: it lies between 0 and 1, such as 0.9.")
    best, count = scores.mean.max(), len(scores.depth)
    if best <= 0:
        raise UserError("no depth has a positive score: there is no share of it to speak of.")
    place = int((scores.mean >= share * best).argmax())
    # p-values of "the depth does not reach the share" and of "the depth reaches the share".
    outside, within = np.zeros(count), np.zeros(count)
    for k in range(count - 1):
        over = np.array([difference(count, k, j, share) for j in range(count) if j != k])
        outside[k] = scores.p_above_zero(over).max()
        within[k] = min(1.0, (count - 1) * scores.p_above_zero(-over).min())
    within[-1] = 1.0
    ends = (within >= TAIL, outside < TAIL)
    low, high = (int(scores.depth[each.argmax()]) for each in ends)
    p = max([outside[place], *within[:place]])
    depth = Estimate(int(scores.depth[place]), low, high, int(scores.seeds.min()))
    return Saturation(depth, share, int(scores.depth[-1]), float(p))


def monotonicity(scores: DepthScores) -> Monotonicity:
    """Test whether the score rises with every step and whether it falls anywhere."""
    count = len(scores.depth)
    if count < 2:
        raise UserError("a trend needs at least two depths: add depths to the study.")
    steps = [(k - 1, k) for k in range(1, count)]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    p_rises = scores.p_above_zero(np.array([difference(count, j, i) for i, j in steps]))
    p_falls = scores.p_above_zero(np.array([difference(count, i, j) for i, j in pairs]))

    def change(i: int, j: int, p: float) -> Change:
        value = scores.estimate(difference(count, j, i))
        return Change(int(scores.depth[i]), int(scores.depth[j]), value, min(1.0, p))

    return Monotonicity(
        rise=change(*steps[int(p_rises.argmax())], float(p_rises.max())),
        fall=change(*pairs[int(p_falls.argmin())], len(pairs) * float(p_falls.min())),
    )


def _thresholds(scores: DepthScores) -> np.ndarray:
    """The share that each step must exceed: half, or the step's share of the log2 range of depth
    if that is larger."""
    steps = np.diff(np.log2(scores.depth))
    return np.maximum(MAJORITY, steps / steps.sum())


def _spans(count: int, step: int) -> np.ndarray:
    """Weights of every gain from a depth before the step to a depth after it, `[spans, depths]`."""
    return np.array(
        [difference(count, last, first) for first in range(step) for last in range(step, count)]
    )


def _step_p_values(scores: DepthScores, step: int, shares: np.ndarray) -> np.ndarray:
    """p-value of "the step brings at most this share", for each share, `[..., shares]`."""
    count = len(scores.depth)
    spans = _spans(count, step)
    over = difference(count, step, step - 1) - shares[:, None, None] * spans
    p = scores.p_above_zero(over.reshape(-1, count))
    return p.reshape(*p.shape[:-1], len(shares), len(spans)).max(-1)


def _share(scores: DepthScores, step: int) -> Estimate:
    """The step's share; its interval holds every share not rejected at 2.5 % on either side."""
    count, mean = len(scores.depth), scores.mean
    gain, whole = mean[step] - mean[step - 1], mean[step:].max() - mean[:step].min()
    value = float(np.clip(gain / whole, 0, 1)) if whole > 0 else 0.0
    shares = np.linspace(0, 1, 201)
    too_low = shares[_step_p_values(scores, step, shares) < TAIL]
    below = difference(count, step - 1, step) + shares[:, None] * difference(count, -1, 0)
    too_high = shares[scores.p_above_zero(below) < TAIL]
    low, high = max(too_low, default=0.0), min(too_high, default=1.0)
    return Estimate(value, float(low), float(high), int(scores.seeds.min()))
