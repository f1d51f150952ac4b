"""Steps to a share, cost curves and budgets: hand computations and simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.analysis.claims import INCONCLUSIVE, assess_claims
from kilolayer.analysis.cost_curves import (
    CostCurve,
    depth_pareto_front,
    recommend_depth,
    recommendation_claim,
    scores_at_budget,
)
from kilolayer.analysis.threshold import estimate_steps_to_share, steps_to_share, trailing_mean
from kilolayer.errors import UserError


def curve(depth, mean, cost_each=1.0, error=1.0, seeds=5):
    mean = np.array(mean, float)
    cost = cost_each * np.arange(1, len(mean) + 1)
    return CostCurve(depth, cost, mean, np.full(len(mean), error), seeds)


def test_steps_to_share_matches_hand_computation():
    # Trailing means of five: 0 at step 5, then 2, 4, 6, 8, 10 at steps 6 to 10, and 10 again.
    scores = np.array([0.0] * 5 + [10] * 6)
    steps = np.arange(1, 12)
    np.testing.assert_allclose(trailing_mean(scores), [0, 2, 4, 6, 8, 10, 10])
    assert steps_to_share(steps, scores, 0.5) == 8
    assert steps_to_share(steps, scores, 0.9) == 10
    both = steps_to_share(steps, np.stack([scores, 0 * scores]), 0.4)
    np.testing.assert_array_equal(both, [7, np.inf])


def test_steps_to_share_interval_covers_truth():
    """Seeds rise from 0 to 1 around step 50, so the mean reaches one half there."""
    generator, steps = np.random.default_rng(0), np.arange(100.0)
    covered = 0
    for _ in range(150):
        times = 50 + 8 * generator.normal(size=(10, 1))
        scores = 1 / (1 + np.exp(-(steps - times) / 4))
        estimate = estimate_steps_to_share(steps, scores, 0.5, generator, resamples=300)
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= 52 <= estimate.high  # the trailing mean lags by two steps
    assert covered / 150 >= 0.92


def test_steps_to_share_refuses_invalid_input():
    generator, steps = np.random.default_rng(0), np.arange(10)
    with pytest.raises(UserError, match="at least two seeds"):
        estimate_steps_to_share(steps, np.ones((1, 10)), 0.5, generator)
    with pytest.raises(UserError, match="final score is not positive"):
        estimate_steps_to_share(steps, np.zeros((2, 10)), 0.5, generator)
    with pytest.raises(UserError, match="trailing mean of 5 evaluations"):
        steps_to_share(steps[:4], np.ones(4), 0.5)
    with pytest.raises(UserError, match=r"share = 0 "):
        steps_to_share(steps, np.ones(10), 0)


def test_cost_curve_standard_error_uses_trailing_means_per_seed():
    # Seeds alternate in opposite phase: they differ at each evaluation, but not over six.
    seeds = np.array([[0.0, 2] * 6, [2.0, 0] * 6])
    found = CostCurve.from_seeds(8, np.arange(12), seeds)
    np.testing.assert_allclose(found.mean, 1)
    # Trailing means of five are 0.8 and 1.2: half their difference is the standard error.
    np.testing.assert_allclose(found.error, 0.2)
    np.testing.assert_array_equal(found.cost, np.arange(4, 12))


def test_scores_at_budget():
    curves = [curve(16, [5, 9], cost_each=4), curve(4, [1, 2, 3]), curve(64, [7], cost_each=10)]
    scores = scores_at_budget(curves, 7.9)
    np.testing.assert_array_equal(scores.depth, [4, 16])  # 64 is not evaluated yet
    np.testing.assert_array_equal(scores.mean, [3, 5])  # 4 ended early, 16 has one evaluation
    with pytest.raises(UserError, match=r"within 0\.5: allow at least 1"):
        scores_at_budget(curves, 0.5)


def test_recommendation_lists_depths_that_are_not_significantly_worse():
    curves = [curve(4, [10]), curve(8, [49]), curve(16, [50])]
    found = recommend_depth(curves, 1)
    assert (found.depth, found.candidates[0]) == (16, 8)
    (verdict,) = assess_claims([recommendation_claim(found, "hours", failed=0)])
    assert verdict.strength == INCONCLUSIVE
    assert verdict.sentence.startswith(
        "Within 1 hours depth 16 scores best, but depth 8 is not significantly worse; the "
        "shallowest candidate is depth 8; the lead over the next depth is 1 ("
    )
    close = recommend_depth([curve(4, [48]), curve(8, [49]), curve(16, [50])], 1)
    (verdict,) = assess_claims([recommendation_claim(close, "hours", failed=0)])
    assert "but depths 4 and 8 are not significantly worse" in verdict.sentence
    clear = recommend_depth([curve(4, [10]), curve(8, [50])], 1)
    assert (clear.depth, clear.candidates[0]) == (8, 8)
    (verdict,) = assess_claims([recommendation_claim(clear, "hours", failed=2)])
    assert verdict.strength == "strong"
    assert (
        "Within 1 hours depth 8 scores best, ahead of the next depth by 40 (95 %"
        in verdict.sentence
    )
    assert verdict.sentence.endswith("; 2 failed runs are excluded.")
    shallow = recommend_depth([curve(4, [50]), curve(8, [49])], 1)
    assert (shallow.depth, shallow.candidates) == (4, (4, 8))


def front_of(points: list[tuple[float, float]]) -> list[tuple[float, int, float]]:
    """The Pareto front of one curve for each `(cost, score)`; the depth is the point's index."""
    columns = [np.array(point, float)[:, None] for point in points]
    return depth_pareto_front(
        [CostCurve(k, *column, np.zeros(1), 2) for k, column in enumerate(columns)]
    )


def test_pareto_front_matches_hand_computation():
    points = [(1, 5), (2, 4), (2, 7), (3, 7), (4, 8), (1, 5)]
    assert front_of(points) == [(1, 0, 5), (2, 2, 7), (4, 4, 8)]
    assert depth_pareto_front([curve(4, [1, 2, 3]), curve(8, [4, 9], cost_each=2)]) == [
        (1, 4, 1),
        (2, 8, 4),
        (4, 8, 9),
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_pareto_front_is_the_set_of_undominated_points(points):
    cost, score = np.array(points, float).T
    beaten = [
        any(
            cost[j] <= cost[i] and score[j] >= score[i] and points[i] != points[j]
            for j in range(len(points))
        )
        for i in range(len(points))
    ]
    assert {(cost, score) for cost, _, score in front_of(points)} == {
        point for point, is_beaten in zip(points, beaten, strict=True) if not is_beaten
    }


def test_cost_analysis_refuses_invalid_input():
    with pytest.raises(UserError, match="only depth 4 was evaluated within 1"):
        recommend_depth([curve(4, [1])], 1)
    with pytest.raises(UserError, match="no curves"):
        scores_at_budget([], 1)
    with pytest.raises(UserError, match="one rising cost"):
        CostCurve(4, np.zeros(3), np.zeros(3), np.zeros(3), 5)
    with pytest.raises(UserError, match="at least two seeds at depth 4"):
        CostCurve.from_seeds(4, np.arange(9), np.ones((1, 9)))
