"""The effect of depth on the score of one task: jumps, saturation and decreases.

A jump is a step between neighbouring depths that contributes more than half of the total gain from
depth, and whose gain no deeper network loses. Smooth trends have no jump: a straight line in log2
depth over four doublings gains a quarter per doubling, and a logistic curve that takes two
doublings or more to rise from 10 to 90 percent gains at most half of its rise in one doubling. The
test holds for all such smooth trends and needs no formula for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.claims import Claim
from kilolayer.analysis.differences import CellMeans
from kilolayer.analysis.statistics import CONFIDENCE, Estimate
from kilolayer.errors import UserError

MAJORITY = 0.5
SATURATED = 0.9  # share of the best score
TAIL_PROBABILITY = (1 - CONFIDENCE) / 2


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


@dataclass(frozen=True)
class CriticalDepth:
    """The step from `shallower` to `depth` that is most likely a jump.

    share: the gain of the step divided by the largest gain across it, in 0 to 1. p_jump: p-value of
    "no step is a jump". p_gradual: p-value of "some step contributes at least half of the total
    gain", or at least its share of the log2 range of depth if that is larger. widest: the largest
    such share of a step.
    """

    shallower: int
    depth: int
    share: Estimate
    p_jump: float
    p_gradual: float
    widest: float


@dataclass(frozen=True)
class Saturation:
    """The shallowest depth that reaches `SATURATED` of the best score, with its 95 % interval.

    low: every shallower depth certainly misses it. high: the shallowest depth that certainly
    reaches the share, or the deepest depth of the study (`deepest`) if none is certain. p: p-value
    of "another depth is the shallowest one".
    """

    depth: Estimate
    deepest: int
    p: float


@dataclass(frozen=True)
class Change:
    """Change of the score between two depths; p: one-sided."""

    shallower: int
    deeper: int
    estimate: Estimate
    p: float


@dataclass(frozen=True)
class Monotonicity:
    """Whether the score increases with every step in depth, or decreases between two depths.

    increase: the least certain step; its p is that of "some step is no increase". decrease: the
    most certain decrease; its p is that of "the score never decreases with depth", corrected for
    `pairs`, the number of pairs of depths.
    """

    increase: Change
    decrease: Change
    pairs: int


def critical_depth(scores: DepthScores) -> CriticalDepth:
    """Find and test the jump; raises UserError for fewer than three depths.

    Each p-value may be tested at the full level, since one of the two null hypotheses is true.

    A step wider than half the range studied (in log2 depth) must contribute more than its share of
    that range.
    """
    p_jump, count = jump_p_values(scores), len(scores.depth)
    step, thresholds = int(p_jump.argmin()) + 1, _share_thresholds(scores)
    gradual = [
        depth_contrast(count, k - 1, k) + threshold * depth_contrast(count, -1, 0)
        for k, threshold in enumerate(thresholds, start=1)
    ]
    return CriticalDepth(
        shallower=int(scores.depth[step - 1]),
        depth=int(scores.depth[step]),
        share=_share_estimate(scores, step),
        p_jump=min(1.0, float(p_jump.min())),
        p_gradual=float(scores.cells.p_above_zero(np.array(gradual)).max()),
        widest=float(thresholds.max()),
    )


def jump_p_values(scores: DepthScores) -> np.ndarray:
    """p-value of "this step is no jump" for every step, `[..., depths - 1]`.

    A jump contributes more than half of the gain across every span that contains it. It also lasts:
    every depth after it scores above every depth before it. Both conditions are intersections of
    Welch tests, which need no correction for their number. p is doubled for the selection of the
    step, since at most two steps can contribute half each. No simulated trend with more candidate
    steps gave false jumps more often (`results/statistics`). Values above 1 are kept to preserve
    the order of the steps.
    """
    if len(scores.depth) < 3:
        raise UserError(
            f"a critical depth needs at least three depths and there are "
            f"{scores.depth.tolist()}: add depths to the study."
        )
    p = [
        np.maximum(
            _step_p_values(scores, k, np.array([share]))[..., 0],
            scores.cells.p_above_zero(_span_contrasts(len(scores.depth), k)).max(-1),
        )
        for k, share in enumerate(_share_thresholds(scores), start=1)
    ]
    return 2 * np.stack(p, -1)


def saturation_depth(scores: DepthScores) -> Saturation:
    """The shallowest depth whose score is at least `SATURATED` of the best score.

    Its interval comes from Welch tests of each depth's mean against this share of every other mean.
    Raises UserError unless the best score is positive.
    """
    best, count = scores.mean.max(), len(scores.depth)
    if best <= 0:
        raise UserError(
            "no depth has a positive score, so a share of the best score is not defined."
        )
    index = int((scores.mean >= SATURATED * best).argmax())
    # p-values of "the depth does not reach the share" and of "the depth reaches the share".
    p_not_reached, p_reached = np.zeros(count), np.zeros(count)
    for k in range(count - 1):
        over = np.array([depth_contrast(count, k, j, SATURATED) for j in range(count) if j != k])
        p_not_reached[k] = scores.cells.p_above_zero(over).max()
        p_reached[k] = min(1.0, (count - 1) * scores.cells.p_above_zero(-over).min())
    p_reached[-1] = 1.0
    bounds = (p_reached >= TAIL_PROBABILITY, p_not_reached < TAIL_PROBABILITY)
    low, high = (int(scores.depth[bound.argmax()]) for bound in bounds)
    p = max([p_not_reached[index], *p_reached[:index]])
    depth = Estimate(int(scores.depth[index]), low, high, int(scores.seeds.min()))
    return Saturation(depth, int(scores.depth[-1]), float(p))


def monotonicity(scores: DepthScores) -> Monotonicity:
    """Test whether the score increases with every step, and whether it decreases anywhere."""
    count = len(scores.depth)
    if count < 2:
        raise UserError("a trend needs at least two depths: add depths to the study.")
    steps = [(k - 1, k) for k in range(1, count)]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    cells = scores.cells
    p_increase = cells.p_above_zero(np.array([depth_contrast(count, j, i) for i, j in steps]))
    p_decrease = cells.p_above_zero(np.array([depth_contrast(count, i, j) for i, j in pairs]))

    def change(i: int, j: int, p: float) -> Change:
        estimate = cells.estimate(depth_contrast(count, j, i))
        return Change(int(scores.depth[i]), int(scores.depth[j]), estimate, min(1.0, p))

    return Monotonicity(
        increase=change(*steps[int(p_increase.argmax())], float(p_increase.max())),
        decrease=change(*pairs[int(p_decrease.argmin())], len(pairs) * float(p_decrease.min())),
        pairs=len(pairs),
    )


def critical_claim(critical: CriticalDepth, failed: int) -> Claim:
    """Whether one step in depth contributes more than half of the total gain from depth."""
    step = f"the step from depth {critical.shallower} to {critical.depth}"
    share = f"{step} contributes this share of the gain from depth:"
    statement = f"Depth {critical.depth} is critical: {share}"
    if critical.p_gradual < critical.p_jump:
        # A step wider than half of the range may contribute more than half of the gain.
        part = "half of the gain"
        if critical.widest > MAJORITY:
            part = f"both more than {part} and more than its share of the doublings in depth"
        statement = f"No depth is critical: no step contributes {part}; {share}"
    fallback = f"It is uncertain whether a depth is critical: {share}"
    p = min(critical.p_jump, critical.p_gradual)
    return Claim(statement, critical.share, p, failed, None, fallback)


def saturation_claim(saturation: Saturation, failed: int) -> Claim:
    """The shallowest depth whose score is close to the best score."""
    statement = f"The shallowest depth with {100 * SATURATED:.0f} % of the best score is"
    if saturation.depth.value == saturation.deepest:
        statement = (
            f"No saturation up to depth {saturation.deepest}: {statement[0].lower()}{statement[1:]}"
        )
    return Claim(statement, saturation.depth, saturation.p, failed, None)


def monotonicity_claim(trend: Monotonicity, failed: int) -> Claim:
    """Whether the score increases with every step or decreases somewhere; both cannot be true.

    Both can be false: two neighbouring depths may score equally. Then the first claim is made at
    its level, and the second at its level divided by the number of pairs. So p is multiplied by 1 +
    1 / pairs: for two depths it is the two-sided p-value.
    """
    increase, decrease = trend.increase, trend.decrease
    p = min(1.0, (1 + 1 / trend.pairs) * min(increase.p, decrease.p))
    step = f"from depth {decrease.shallower} to {decrease.deeper} the score changes by"
    if decrease.p <= increase.p:
        statement = f"Deeper is not always better: {step}"
        fallback = f"It is uncertain whether the score decreases with depth: {step}"
        return Claim(statement, decrease.estimate, p, failed, None, fallback)
    step = f"from depth {increase.shallower} to {increase.deeper}"
    statement = f"Every step in depth raises the score; the least certain step, {step}, by"
    fallback = f"Not every increase with depth is certain: {step} the score changes by"
    return Claim(statement, increase.estimate, p, failed, None, fallback)


def _share_thresholds(scores: DepthScores) -> np.ndarray:
    """The share that each step must exceed: half, or the step's share of the log2 range of depth
    if that is larger."""
    steps = np.diff(np.log2(scores.depth))
    return np.maximum(MAJORITY, steps / steps.sum())


def _span_contrasts(count: int, step: int) -> np.ndarray:
    """Weights of every gain from a depth before the step to a depth after it, `[spans, depths]`."""
    return np.array(
        [depth_contrast(count, last, first) for first in range(step) for last in range(step, count)]
    )


def _step_p_values(scores: DepthScores, step: int, shares: np.ndarray) -> np.ndarray:
    """p-value of "the step contributes at most this share", for each share, `[..., shares]`."""
    count = len(scores.depth)
    spans = _span_contrasts(count, step)
    over = depth_contrast(count, step, step - 1) - shares[:, None, None] * spans
    p = scores.cells.p_above_zero(over.reshape(-1, count))
    return p.reshape(*p.shape[:-1], len(shares), len(spans)).max(-1)


def _share_estimate(scores: DepthScores, step: int) -> Estimate:
    """The step's share; its interval contains all shares that two tests at 2.5 % do not reject."""
    count, mean = len(scores.depth), scores.mean
    gain, total = mean[step] - mean[step - 1], mean[step:].max() - mean[:step].min()
    value = float(np.clip(gain / total, 0, 1)) if total > 0 else 0.0
    shares = np.linspace(0, 1, 201)
    too_low = shares[_step_p_values(scores, step, shares) < TAIL_PROBABILITY]
    below = depth_contrast(count, step - 1, step) + shares[:, None] * depth_contrast(count, -1, 0)
    too_high = shares[scores.cells.p_above_zero(below) < TAIL_PROBABILITY]
    low, high = max(too_low, default=0.0), min(too_high, default=1.0)
    return Estimate(value, float(low), float(high), int(scores.seeds.min()))
