"""Score against cost: depths compared at equal steps, updates, hours or floating-point operations.

A cost is whatever the caller counts, cumulative at each evaluation; nothing here depends on which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kilolayer.analysis.depth_scores import DepthScores, difference
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.threshold import WINDOW, trailing_mean
from kilolayer.types import UserError

LEVEL = 0.05


@dataclass(frozen=True)
class CostCurve:
    """How the score of one depth grows with its cost.

    cost, mean, error `[evaluations]`: cumulative cost, trailing mean of the score over five
    evaluations, and its standard error over seeds.
    """

    depth: int
    cost: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    seeds: int

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.cost, self.mean, self.error)}
        if len(shapes) != 1 or not len(self.cost) or not (np.diff(self.cost) > 0).all():
            raise UserError(
                f"the curve of depth {self.depth} needs one score and one rising cost for every "
                "evaluation."
            )

    @classmethod
    def from_seeds(cls, depth: int, cost: np.ndarray, scores: np.ndarray) -> "CostCurve":
        """From every seed's scores, `[seeds, all evaluations]`; raises UserError for one seed."""
        if len(scores) < 2:
            raise UserError(f"an interval needs at least two seeds at depth {depth}: run more.")
        smooth = trailing_mean(scores)
        error = smooth.std(0, ddof=1) / np.sqrt(len(scores))
        return cls(depth, np.asarray(cost)[WINDOW - 1 :], smooth.mean(0), error, len(scores))

    @classmethod
    def from_means(
        cls, depth: int, cost: np.ndarray, mean: np.ndarray, error: np.ndarray, seeds: int
    ) -> "CostCurve":
        """From means and standard errors at all evaluations, where seeds are not known one by one.

        The error of a trailing mean is then bounded by the trailing mean of the errors, which it
        equals if a seed that is good at one evaluation is as good at the next.
        """
        cost = np.asarray(cost)[WINDOW - 1 :]
        return cls(depth, cost, trailing_mean(mean), trailing_mean(error), seeds)


@dataclass(frozen=True)
class Recommendation:
    """depth: best mean score within the budget. rivals: depths that are not clearly worse than it
    (5 %, corrected for the number of depths), itself included. scores: all depths, at the budget.
    """

    budget: float
    depth: int
    rivals: tuple[int, ...]
    scores: DepthScores

    @property
    def enough(self) -> int:
        """The shallowest depth that may do as well."""
        return self.rivals[0]


def at_budget(curves: Sequence[CostCurve], budget: float) -> DepthScores:
    """The score of each depth once it has cost `budget`.

    A run that ended cheaper counts with its end, a lower bound of what more training would give; a
    depth with no evaluation within the budget is left out. Raises UserError if that is every one.
    """
    if not curves:
        raise UserError("there are no curves to compare: give at least one depth.")
    within = sorted((c for c in curves if c.cost[0] <= budget), key=lambda c: c.depth)
    if not within:
        cheapest = min(c.cost[0] for c in curves)
        raise UserError(f"no depth was evaluated within {budget:g}: allow at least {cheapest:g}.")
    last = [int(np.searchsorted(c.cost, budget, side="right")) - 1 for c in within]
    return DepthScores(
        np.array([c.depth for c in within]),
        np.array([c.mean[k] for c, k in zip(within, last, strict=True)]),
        np.array([c.error[k] for c, k in zip(within, last, strict=True)]),
        np.array([c.seeds for c in within]),
    )


def recommended_depth(curves: Sequence[CostCurve], budget: float) -> Recommendation:
    """The depth to train for a budget, and those that may do as well."""
    scores = at_budget(curves, budget)
    count, best = len(scores.depth), int(scores.mean.argmax())
    others = [k for k in range(count) if k != best]
    worse = np.zeros(count, bool)
    if others:
        over = np.array([difference(count, best, k) for k in others])
        worse[others] = scores.p_above_zero(over) < LEVEL / len(others)
    return Recommendation(
        budget, int(scores.depth[best]), tuple(scores.depth[~worse].tolist()), scores
    )


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Which points no other one beats by costing no more and scoring no less, `[points]` -> bool.

    Of equal points the first is kept.
    """
    order = np.lexsort((-np.asarray(score), np.asarray(cost)))
    ranked = np.asarray(score, np.float64)[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked)[:-1]])
    front = np.zeros(len(order), bool)
    front[order] = ranked > before
    return front


def best_depths(curves: Sequence[CostCurve]) -> list[tuple[float, int, float]]:
    """The Pareto front over all evaluations of all depths: `(cost, depth, score)`, cost rising."""
    cost = np.concatenate([c.cost for c in curves])
    score = np.concatenate([c.mean for c in curves])
    depth = np.concatenate([np.full(len(c.cost), c.depth) for c in curves])
    front = np.flatnonzero(pareto_front(cost, score))
    points = [(float(cost[k]), int(depth[k]), float(score[k])) for k in front]
    return sorted(points)


@dataclass(frozen=True)
class Comparison:
    """Two depths on several tasks at equal cost: how much the shallower one is ahead on each.

    p: two-sided sign test of each being ahead equally often.
    """

    shallower: int
    deeper: int
    ahead: dict[str, Estimate]
    p: float

    @property
    def wins(self) -> int:
        return sum(estimate.value > 0 for estimate in self.ahead.values())


def compare(tasks: Mapping[str, Sequence[CostCurve]], shallower: int, deeper: int) -> Comparison:
    """Compare two depths on every task at what the cheaper of the two runs cost in all.

    Raises UserError for no task, for a depth that a task lacks and for depths in another order.
    """
    if shallower >= deeper or not tasks:
        raise UserError("a comparison needs a task and two depths, the shallower one first.")
    ahead = {}
    for name, curves in tasks.items():
        pair = [c for c in curves if c.depth in (shallower, deeper)]
        if len(pair) != 2:
            raise UserError(f"{name} was not run at depths {shallower} and {deeper}: run both.")
        scores = at_budget(pair, min(c.cost[-1] for c in pair))
        if len(scores.depth) != 2:
            raise UserError(f"on {name} one run ended before the other's first evaluation.")
        ahead[name] = scores.estimate(difference(2, 0, 1))
    decided = [estimate.value > 0 for estimate in ahead.values() if estimate.value != 0]
    p = stats.binomtest(sum(decided), len(decided)).pvalue if decided else 1.0
    return Comparison(shallower, deeper, ahead, float(p))
