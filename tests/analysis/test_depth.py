"""Depth analysis: hand computations, error rates on simulated studies, published curves."""

import numpy as np
import pytest
from benchmarks import error_rates
from benchmarks import simulated_studies as simulation
from hypothesis import given
from hypothesis import strategies as st
from results.published_curves import analyse
from scipy import stats

from kilolayer.analysis.claims import INCONCLUSIVE, Claim, Verdict, assess_claims
from kilolayer.analysis.depth import (
    DepthScores,
    critical_claim,
    critical_depth,
    depth_contrast,
    jump_p_values,
    monotonicity,
    monotonicity_claim,
    saturation_claim,
    saturation_depth,
)
from kilolayer.errors import UserError

needs_reference = pytest.mark.skipif(
    not (analyse.FOLDER / "curves_depth.json").is_file(), reason="no published curves here"
)


def verdict(claim: Claim) -> Verdict:
    return assess_claims([claim])[0]


def study(means, error=1.0, seeds=5):
    count = len(means)
    depths = 4 * 2 ** np.arange(count)
    return DepthScores(depths, np.array(means), np.full(count, error), np.full(count, seeds))


def test_depth_contrast_matches_welch_test():
    generator = np.random.default_rng(0)
    scores = {4: generator.normal(size=4), 8: 3 * generator.normal(size=7) + 1}
    summary = DepthScores.from_seeds(scores)
    expected = stats.ttest_ind(scores[8], scores[4], equal_var=False, alternative="greater")
    weights = depth_contrast(2, 1, 0)
    assert summary.cells.p_above_zero(weights[None])[0] == pytest.approx(expected.pvalue)
    both = stats.ttest_ind(scores[8], scores[4], equal_var=False).confidence_interval(0.95)
    estimate = summary.cells.estimate(weights)
    assert [estimate.low, estimate.high] == pytest.approx([both.low, both.high])
    assert estimate.seeds == 4


def test_jump_share_matches_hand_computation():
    # Gains 10, 70, 20 of 100; small errors give a narrow interval.
    found = critical_depth(study([0, 10, 80, 100], error=0.01))
    assert (found.shallower, found.depth) == (8, 16)
    assert found.share.value == pytest.approx(0.7)
    assert 0.69 <= found.share.low <= found.share.high <= 0.71
    assert found.p_jump == pytest.approx(2 / 252)  # the least that five seeds can give, doubled
    assert found.p_gradual > 0.999


def test_jump_p_value_matches_hand_computation():
    # Two doublings, gains 9 and 3. Contrasts of the first step: with itself 9 - 4.5, with both 9 -
    # 6, whose error is sqrt(1 + 1/4 + 1/4): t = 3 / 1.2247 with 2.25 / ((1 + 2/16) / 4) = 8
    # degrees. The p-value is that of the weakest contrast, doubled since two steps can contribute
    # half each.
    p = jump_p_values(study([0, 9, 12]))
    assert p[0] == pytest.approx(2 * stats.t.sf(3 / np.sqrt(1.5), 8))


def test_p_value_with_zero_variance_is_bounded_by_permutations():
    # All seeds succeed or none: p is one over the permutations of two depths, doubled.
    for seeds, divisions, strength in ((3, 20, "weak"), (4, 70, "moderate"), (5, 252, "strong")):
        scores = {4: np.zeros(seeds), 8: np.zeros(seeds), 16: np.ones(seeds), 32: np.ones(seeds)}
        found = critical_depth(DepthScores.from_seeds(scores))
        assert (found.depth, found.p_jump) == (16, pytest.approx(2 / divisions))
        assert verdict(critical_claim(found, failed=0)).strength == strength


def test_jump_p_value_is_continuous_at_zero_variance():
    scores = {4: np.zeros(3), 8: np.zeros(3), 16: np.ones(3), 32: np.ones(3)}
    moved = scores | {8: np.array([0, 0, 1e-9])}
    before, after = (critical_depth(DepthScores.from_seeds(each)) for each in (scores, moved))
    assert after.p_jump == pytest.approx(before.p_jump)


@pytest.mark.parametrize("means", [[0.0, 100, 0, 100, 0], [100.0, 0, 100, 0, 100], [0, 0, 9, 0, 0]])
def test_gain_that_a_deeper_network_loses_is_no_jump(means):
    assert jump_p_values(study(means, error=1)).min() > 0.4


def test_wide_step_must_exceed_its_share_of_the_depth_range():
    # 8 to 64 is three of four doublings: on a straight line it contributes three quarters.
    line = DepthScores(np.array([4, 8, 64]), np.array([0, 1, 4]), np.full(3, 0.01), np.full(3, 5))
    assert jump_p_values(line).min() > 0.3
    jump = DepthScores(np.array([4, 8, 64]), np.array([0, 0.1, 4]), np.full(3, 0.01), np.full(3, 5))
    assert critical_depth(jump).depth == 64
    assert critical_depth(jump).p_jump < 0.01


def test_decrease_at_another_step_makes_no_jump():
    # The first step is the whole gain from first to last depth, but the range in between is 40.
    assert jump_p_values(study([0, 20, 40, 20], error=0.01)).min() > 0.3


@given(
    st.lists(st.integers(0, 100), min_size=3, max_size=6),
    st.integers(1, 20),
    st.integers(-9, 9),
    st.integers(1, 9),
)
def test_critical_depth_is_invariant_to_affine_score_transformations(means, error, shift, scale):
    before = critical_depth(study(np.array(means, float), error))
    after = critical_depth(study(shift + scale * np.array(means, float), scale * error))
    assert after.p_jump == pytest.approx(before.p_jump, abs=1e-9)
    assert after.p_gradual == pytest.approx(before.p_gradual, abs=1e-9)
    assert before.share.low <= before.share.value + 1e-9
    assert before.share.value <= before.share.high + 1e-9


@pytest.mark.parametrize("name", simulation.NO_JUMP)
@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
def test_false_jump_rate_is_at_most_the_level(name, spread):
    """Within three standard errors of 4000 studies."""
    generator = np.random.default_rng(0)
    scores = simulation.simulate(simulation.NO_JUMP[name], spread, 5, 4000, generator)
    p = jump_p_values(scores).min(-1)
    for level in (0.01, 0.05, 0.1):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 4000)


@pytest.mark.parametrize(
    ("share", "spread", "seeds", "least"),
    [(0.7, 0.1, 5, 0.6), (0.85, 0.2, 5, 0.5), (0.85, 0.2, 10, 0.85), (1.0, 0.2, 5, 0.8)],
)
def test_power_to_detect_jumps(share, spread, seeds, least):
    generator = np.random.default_rng(0)
    for step in (1, 3):
        scores = simulation.simulate(simulation.jump(share, step), spread, seeds, 2000, generator)
        assert error_rates.found(scores, step, 0.05) >= least


def test_jump_share_interval_covers_truth():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(simulation.jump(0.7, 1), 0.2, 5, 150, generator)
    covered = 0
    for mean, error in zip(scores.mean, scores.error, strict=True):
        share = critical_depth(DepthScores(scores.depth, mean, error, scores.seeds)).share
        covered += share.low <= 0.7 <= share.high
    assert covered / len(scores.mean) >= 0.93


def test_saturation_depth_matches_hand_computation():
    found = saturation_depth(study([10.0, 50, 95, 100], error=0.1))
    assert (found.depth.value, found.depth.low, found.depth.high) == (16, 16, 16)
    # p is at least 1 / 252 for each of three other depths.
    assert verdict(saturation_claim(found, failed=0)).strength == "moderate"
    vague = saturation_depth(study([10.0, 50, 95, 100], error=14))
    assert (vague.depth.value, vague.depth.low, vague.depth.high) == (16, 8, 32)
    assert verdict(saturation_claim(vague, failed=0)).strength == INCONCLUSIVE
    rising = saturation_depth(study([10.0, 50, 70, 100], error=0.1))
    assert "No saturation up to depth 32" in verdict(saturation_claim(rising, failed=0)).sentence


def test_saturation_depth_interval_covers_truth():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(np.array([0.2, 0.6, 0.95, 1, 1]), 0.15, 5, 150, generator)
    covered = 0
    for mean, error in zip(scores.mean, scores.error, strict=True):
        found = saturation_depth(DepthScores(scores.depth, mean, error, scores.seeds)).depth
        assert found.low <= found.value <= found.high
        covered += found.low <= 16 <= found.high
    assert covered / len(scores.mean) >= 0.93


def test_monotonicity_reports_decrease_and_increase():
    found = monotonicity(study([0.0, 50, 100, 60]))
    assert (found.decrease.shallower, found.decrease.deeper, found.decrease.estimate.value) == (
        16,
        32,
        -40,
    )
    # p is at least 1 / 252 for each of six pairs.
    assert verdict(monotonicity_claim(found, failed=0)).strength == "moderate"
    rise = verdict(monotonicity_claim(monotonicity(study([0.0, 50, 100, 160])), failed=0))
    assert "Every step in depth raises the score" in rise.sentence
    vague = verdict(monotonicity_claim(monotonicity(study([0.0, 50, 51, 52], error=9)), failed=0))
    assert vague.strength == INCONCLUSIVE
    assert vague.sentence.startswith("Not every increase with depth is certain: from depth 8 to 16")


def test_direction_of_two_depths_has_the_two_sided_p_value():
    """The direction is chosen after the runs, so one of two one-sided tests is not enough."""
    generator = np.random.default_rng(0)
    for scores in generator.normal(size=(20, 2, 8)):
        trend = monotonicity(DepthScores.from_seeds({4: scores[0], 8: scores[1]}))
        expected = stats.ttest_ind(*scores, equal_var=False).pvalue
        assert monotonicity_claim(trend, failed=0).p == pytest.approx(expected)


def test_false_decrease_rate():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(np.zeros(5), 1.0, 5, 300, generator)
    found = [
        monotonicity(DepthScores(scores.depth, mean, error, scores.seeds)).decrease.p <= 0.05
        for mean, error in zip(scores.mean, scores.error, strict=True)
    ]
    assert np.mean(found) <= 0.08


def test_critical_depth_has_three_possible_verdicts():
    jump = verdict(critical_claim(critical_depth(study([0.0, 2, 95, 100])), failed=0))
    assert jump.sentence.startswith("Depth 16 is critical")
    assert jump.strength == "strong"
    line = verdict(critical_claim(critical_depth(study([0.0, 25, 50, 75, 100])), failed=0))
    assert line.sentence.startswith("No depth is critical")
    assert line.strength == "strong"
    vague = verdict(critical_claim(critical_depth(study([0.0, 25, 60, 100], error=40)), failed=0))
    assert vague.strength == INCONCLUSIVE


def test_wide_step_below_its_share_is_not_said_to_contribute_less_than_half():
    """Depths 4, 8, 64: the second step is three of four doublings and contributes 0.6."""
    scores = DepthScores(np.array([4, 8, 64]), np.array([0.0, 40, 100]), np.ones(3), np.full(3, 5))
    found = verdict(critical_claim(critical_depth(scores), failed=0))
    assert found.strength == "strong"
    assert found.sentence.startswith(
        "No depth is critical: no step contributes both more than half of the gain and more than "
        "its share of the doublings in depth; "
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DepthScores.from_seeds({4: np.ones(1), 8: np.ones(3)}), "at least two seeds"),
        (lambda: study([0.0, 1, 2], seeds=1), "at least two seeds"),
        (lambda: study([0.0, np.nan, 2]), "not finite"),
        (lambda: critical_depth(study([0.0, 1])), "at least three depths"),
        (lambda: saturation_depth(study([0.0, -1])), "no depth has a positive score"),
    ],
)
def test_depth_analysis_refuses_invalid_input(build, message):
    with pytest.raises(UserError, match=message):
        build()


@needs_reference
def test_largest_published_steps_match_published_critical_depths():
    tasks = analyse.published_tasks()
    depths = {"ant_big_maze": 8, "humanoid": 16, "humanoid_u_maze": 64}
    assert {name: critical_depth(tasks[name].final).depth for name in depths} == depths


@needs_reference
def test_published_final_scores_match_published_table():
    table = analyse.read("published.json")["time_at_goal_by_depth"]
    for name, task in analyse.published_tasks().items():
        for depth, mean in zip(task.final.depth, task.final.mean, strict=True):
            assert mean == pytest.approx(table[name][str(depth)], rel=0.015, abs=0.06)


@needs_reference
def test_steps_to_share_match_published_values():
    published = analyse.read("published.json")[
        "million_env_steps_for_depth_64_to_reach_50_and_90_percent_of_its_final_score"
    ]
    tasks = analyse.published_tasks()
    for name in set(published) - {"how"}:
        difference_in_evaluations = np.subtract(analyse.million_steps(tasks[name]), published[name])
        assert np.abs(difference_in_evaluations).max() <= 1


@needs_reference
def test_depth_32_beats_64_at_equal_hours_on_most_published_tasks():
    ahead = analyse.equal_hours(analyse.published_tasks())
    assert len(ahead) == 10
    found = verdict(analyse.equal_hours_claim(ahead))
    assert (
        "At equal wall-clock time depth 32 is ahead of depth 64 on 9 of 10 tasks" in found.sentence
    )
    assert found.strength == "moderate"


@needs_reference
def test_published_curves_page_is_current():
    page = (analyse.Path(analyse.__file__).parent / "README.md").read_text()
    missing = [line for line in analyse.tables().splitlines() if line not in page]
    assert not missing, "run: python -m results.published_curves.analyse"
