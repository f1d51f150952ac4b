"""Compare depths at equal cost: environment steps, updates, hours or floating-point operations.

The caller chooses the unit of the cost, which is cumulative at each evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.claims import Claim
from kilolayer.analysis.depth import DepthScores, depth_contrast
from kilolayer.analysis.statistics import Estimate, number_text
from kilolayer.analysis.threshold import WINDOW, trailing_mean
from kilolayer.errors import UserError

LEVEL = 0.05


@dataclass(frozen=True)
class CostCurve:
    """The score of one depth as a function of its cost.

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
                f"the curve of depth {self.depth} needs one score and one rising cost per "
                "evaluation."
            )

    @classmethod
    def from_seeds(cls, depth: int, cost: np.ndarray, scores: np.ndarray) -> "CostCurve":
        """From every seed's scores, `[seeds, all evaluations]`; raises UserError for one seed."""
        if len(scores) < 2:
            raise UserError(
                f"an interval needs at least two seeds at depth {depth}: run more seeds."
            )
        smooth = trailing_mean(scores)
        error = smooth.std(0, ddof=1) / np.sqrt(len(scores))
        return cls(depth, np.asarray(cost)[WINDOW - 1 :], smooth.mean(0), error, len(scores))


@dataclass(frozen=True)
class Recommendation:
    """depth: the one with the best mean score within the budget. candidates: depths that are
    not significantly worse (5 %, corrected for the number of depths), `depth` included, from the
    shallowest on. lead: of `depth` over the second best. p: of "another depth is as good",
    corrected for the selection of the best.
    """

    budget: float
    depth: int
    candidates: tuple[int, ...]
    lead: Estimate
    p: float


def scores_at_budget(curves: Sequence[CostCurve], budget: float) -> DepthScores:
    """The score of each depth at the cost `budget`.

    A curve that ends below the budget contributes its last score, a lower bound of the score after
    more training. A depth without an evaluation within the budget is left out. Raises UserError if
    no depth has one.
    """
    if not curves:
        raise UserError("there are no curves to compare: give at least one depth.")
    within = sorted((c for c in curves if c.cost[0] <= budget), key=lambda c: c.depth)
    if not within:
        cheapest = number_text(min(c.cost[0] for c in curves))
        raise UserError(
            f"no depth was evaluated within {number_text(budget)}: allow at least {cheapest}."
        )
    last = [int(np.searchsorted(c.cost, budget, side="right")) - 1 for c in within]
    return DepthScores(
        np.array([c.depth for c in within]),
        np.array([c.mean[k] for c, k in zip(within, last, strict=True)]),
        np.array([c.error[k] for c, k in zip(within, last, strict=True)]),
        np.array([c.seeds for c in within]),
    )


def recommend_depth(curves: Sequence[CostCurve], budget: float) -> Recommendation:
    """The depth to train for a budget, and the depths that may score as well; raises UserError for
    a single depth."""
    scores = scores_at_budget(curves, budget)
    count, best = len(scores.depth), int(scores.mean.argmax())
    if count < 2:
        raise UserError(
            f"only depth {scores.depth[0]} was evaluated within {number_text(budget)}: train "
            "another depth, or evaluate earlier."
        )
    others = [k for k in range(count) if k != best]
    p = scores.cells.p_above_zero(np.array([depth_contrast(count, best, k) for k in others]))
    worse = np.zeros(count, bool)
    worse[others] = p < LEVEL / len(others)
    second = max(others, key=lambda k: scores.mean[k])
    return Recommendation(
        budget,
        int(scores.depth[best]),
        tuple(scores.depth[~worse].tolist()),
        scores.cells.estimate(depth_contrast(count, best, second)),
        min(1.0, count * float(p.max())),
    )


def recommendation_claim(found: Recommendation, unit: str, failed: int) -> Claim:
    """Which depth to train for a budget in the given unit."""
    best = f"Within {number_text(found.budget)} {unit} depth {found.depth} scores best"
    others = [str(depth) for depth in found.candidates if depth != found.depth]
    verb = "depth {} is" if len(others) == 1 else "depths {} are"
    rivals = f", but {verb.format(' and '.join(others))} not significantly worse" if others else ""
    fallback = (
        f"{best}{rivals}; the shallowest candidate is depth {found.candidates[0]}; the lead "
        "over the next depth is"
    )
    statement = f"{best}, ahead of the next depth by"
    return Claim(statement, found.lead, found.p, failed, None, fallback)


def depth_pareto_front(curves: Sequence[CostCurve]) -> list[tuple[float, int, float]]:
    """The Pareto front of low cost and high score over all evaluations of all depths.

    `(cost, depth, score)`, cost rising. Of equal points only the first is on the front.
    """
    points = [
        (cost, curve.depth, score)
        for curve in curves
        for cost, score in zip(curve.cost.tolist(), curve.mean.tolist(), strict=True)
    ]
    front: list[tuple[float, int, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front
