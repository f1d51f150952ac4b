"""Depth analysis: hand arithmetic, error rates on simulated studies, the published curves."""

import numpy as np
import pytest
from benchmarks import critical_depth as simulation
from hypothesis import given
from hypothesis import strategies as st
from results.published_curves import analyse
from scipy import stats

from kilolayer.analysis.depth import (
    critical_depth,
    jump_p_values,
    monotonicity,
    saturation_depth,
)
from kilolayer.analysis.depth_scores import DepthScores, difference
from kilolayer.analysis.verdict import (
    NOT_ENOUGH,
    comparison_verdict,
    critical_verdict,
    monotonicity_verdict,
    saturation_verdict,
)
from kilolayer.types import UserError

needs_reference = pytest.mark.skipif(
    not (analyse.FOLDER / "curves_depth.json").is_file(), reason="no published curves here"
)


def study(means, error=1.0, seeds=5):
    count = len(means)
    depths = 4 * 2 ** np.arange(count)
    return DepthScores(depths, np.array(means), np.full(count, error), np.full(count, seeds))


def test_a_difference_is_welchs_test():
    generator = np.random.default_rng(0)
    scores = {4: generator.normal(size=4), 8: 3 * generator.normal(size=7) + 1}
    summary = DepthScores.from_seeds(scores)
    expected = stats.ttest_ind(scores[8], scores[4], equal_var=False, alternative="greater")
    weights = difference(2, 1, 0)
    assert summary.p_above_zero(weights[None])[0] == pytest.approx(expected.pvalue)
    both = stats.ttest_ind(scores[8], scores[4], equal_var=False).confidence_interval(0.95)
    estimate = summary.estimate(weights)
    assert [estimate.low, estimate.high] == pytest.approx([both.low, both.high])
    assert estimate.seeds == 4


def test_the_share_of_a_jump_by_hand():
    # Gains 10, 70, 20 of 100; the errors are so small that the interval closes in.
    found = critical_depth(study([0, 10, 80, 100], error=0.01))
    assert (found.shallower, found.depth) == (8, 16)
    assert found.share.value == pytest.approx(0.7)
    assert 0.69 <= found.share.low <= found.share.high <= 0.71
    assert found.gain.value == 70
    assert found.p_jump < 1e-6
    assert found.p_spread > 0.999


def test_the_p_value_of_a_jump_by_hand():
    # Two doublings, gains 9 and 3. Contrasts of the first: over itself 9 - 4.5, over both 9 - 6,
    # whose error is sqrt(1 + 1/4 + 1/4): t = 3 / 1.2247 with 2.25 / ((1 + 2/16) / 4) = 8 degrees.
    # The p-value is that of the weaker one, and is doubled since a line gives each step half.
    p = jump_p_values(study([0, 9, 12]))
    assert p[0] == pytest.approx(2 * stats.t.sf(3 / np.sqrt(1.5), 8))


def test_seeds_that_all_agree_are_no_certainty():
    # Success of all or none: three such seeds are weaker than p = 0.1, five are not.
    for seeds, strength in ((3, NOT_ENOUGH), (5, "moderate")):
        scores = {4: np.zeros(seeds), 8: np.zeros(seeds), 16: np.ones(seeds), 32: np.ones(seeds)}
        found = critical_depth(DepthScores.from_seeds(scores))
        assert (found.depth, found.p_jump) == (16, 0.5**seeds)
        assert critical_verdict(found).strength == strength


def test_a_wide_step_must_bring_more_than_its_width():
    # 8 to 64 is three of four doublings: on a straight line it brings three quarters.
    line = DepthScores(np.array([4, 8, 64]), np.array([0, 1, 4]), np.full(3, 0.01), np.full(3, 5))
    assert jump_p_values(line).min() > 0.3
    jump = DepthScores(np.array([4, 8, 64]), np.array([0, 0.1, 4]), np.full(3, 0.01), np.full(3, 5))
    assert critical_depth(jump).depth == 64
    assert critical_depth(jump).p_jump < 0.01


def test_a_fall_elsewhere_makes_no_jump():
    # From first to last it gains 20, of which the first step alone is all; but 40 lie in between.
    assert jump_p_values(study([0, 20, 40, 20], error=0.01)).min() > 0.3


@given(
    st.lists(st.integers(0, 100), min_size=3, max_size=6),
    st.integers(1, 20),
    st.integers(-9, 9),
    st.integers(1, 9),
)
def test_the_unit_of_the_score_does_not_matter(means, error, shift, scale):
    before = critical_depth(study(np.array(means, float), error))
    after = critical_depth(study(shift + scale * np.array(means, float), scale * error))
    assert after.p_jump == pytest.approx(before.p_jump, abs=1e-9)
    assert after.p_spread == pytest.approx(before.p_spread, abs=1e-9)
    assert before.share.low <= before.share.value + 1e-9
    assert before.share.value <= before.share.high + 1e-9


@pytest.mark.parametrize("name", simulation.SMOOTH)
def test_false_alarms_on_smooth_trends_are_rare(name):
    """Three standard errors of 4000 repeats above the rates that the README states."""
    generator = np.random.default_rng(0)
    scores = simulation.simulate(simulation.SMOOTH[name], 0.3, 5, 4000, generator)
    rates = simulation.alarms(scores)
    assert all(rate <= bound for rate, bound in zip(rates, (0.015, 0.066, 0.155), strict=True))


@pytest.mark.parametrize(
    ("share", "spread", "seeds", "least"),
    [(0.7, 0.1, 5, 0.8), (0.85, 0.2, 5, 0.68), (0.85, 0.2, 10, 0.94), (1.0, 0.2, 5, 0.9)],
)
def test_jumps_are_found(share, spread, seeds, least):
    generator = np.random.default_rng(0)
    for step in (1, 3):
        scores = simulation.simulate(simulation.jump(share, step), spread, seeds, 2000, generator)
        assert simulation.found(scores, step, 0.05) >= least


def test_the_interval_of_the_share_covers_it():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(simulation.jump(0.7, 1), 0.2, 5, 150, generator)
    covered = 0
    for mean, error in zip(scores.mean, scores.error, strict=True):
        share = critical_depth(DepthScores(scores.depth, mean, error, scores.seeds)).share
        covered += share.low <= 0.7 <= share.high
    assert covered / len(scores.mean) >= 0.93


def test_saturation_by_hand():
    found = saturation_depth(study([10.0, 50, 95, 100], error=0.1))
    assert (found.depth, found.low, found.high) == (16, 16, 16)
    vague = saturation_depth(study([10.0, 50, 95, 100], error=14))
    assert (vague.depth, vague.low, vague.high) == (16, 8, 32)
    assert saturation_verdict(vague).strength == NOT_ENOUGH
    rising = saturation_depth(study([10.0, 50, 70, 100], error=0.1))
    assert "No saturation up to depth 32" in saturation_verdict(rising).sentence


def test_the_interval_of_the_saturation_depth_covers_it():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(np.array([0.2, 0.6, 0.95, 1, 1]), 0.15, 5, 150, generator)
    covered = 0
    for mean, error in zip(scores.mean, scores.error, strict=True):
        found = saturation_depth(DepthScores(scores.depth, mean, error, scores.seeds))
        assert found.low <= found.depth <= found.high
        covered += found.low <= 16 <= found.high
    assert covered / len(scores.mean) >= 0.93


def test_a_fall_is_named_and_a_rise_too():
    fall = monotonicity(study([0.0, 50, 100, 60]))
    assert (fall.shallower, fall.deeper, fall.change.value) == (16, 32, -40)
    assert monotonicity_verdict(fall).strength == "strong"
    rise = monotonicity(study([0.0, 50, 100, 160]))
    assert "Every step in depth raises the score" in monotonicity_verdict(rise).sentence


def test_falls_are_rarely_seen_where_there_are_none():
    generator = np.random.default_rng(0)
    scores = simulation.simulate(np.zeros(5), 1.0, 5, 300, generator)
    found = [
        monotonicity(DepthScores(scores.depth, mean, error, scores.seeds)).p_fall <= 0.05
        for mean, error in zip(scores.mean, scores.error, strict=True)
    ]
    assert np.mean(found) <= 0.08


def test_three_verdicts_on_a_critical_depth():
    jump = critical_verdict(critical_depth(study([0.0, 2, 95, 100])))
    assert jump.sentence.startswith("Depth 16 is critical")
    assert jump.strength == "strong"
    line = critical_verdict(critical_depth(study([0.0, 25, 50, 75, 100])))
    assert line.sentence.startswith("No depth is critical")
    assert line.strength == "strong"
    vague = critical_verdict(critical_depth(study([0.0, 25, 60, 100], error=40)))
    assert vague.strength == NOT_ENOUGH


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DepthScores.from_seeds({4: np.ones(1), 8: np.ones(3)}), "at least two seeds"),
        (lambda: study([0.0, 1, 2], seeds=1), "at least two seeds"),
        (lambda: study([0.0, np.nan, 2]), "not finite"),
        (lambda: critical_depth(study([0.0, 1])), "at least three depths"),
        (lambda: saturation_depth(study([0.0, -1])), "no depth has a positive score"),
        (lambda: saturation_depth(study([0.0, 1]), share=1.5), "share = 1.5"),
    ],
)
def test_what_cannot_be_analysed_is_one_sentence(build, message):
    with pytest.raises(UserError, match=message):
        build()


@needs_reference
def test_the_published_curves_give_the_published_critical_depths():
    tasks = analyse.published_tasks()
    depths = {"ant_big_maze": 8, "humanoid": 16, "humanoid_u_maze": 64}
    for name, depth in depths.items():
        found = critical_depth(tasks[name].final)
        assert found.depth == depth
        verdict = critical_verdict(found)
        assert verdict.sentence.startswith(f"Depth {depth} is critical")
        assert verdict.strength != NOT_ENOUGH


@needs_reference
def test_the_published_final_scores_are_those_of_the_table():
    table = analyse.read("published.json")["time_at_goal_by_depth"]
    for name, task in analyse.published_tasks().items():
        for depth, mean in zip(task.final.depth, task.final.mean, strict=True):
            assert mean == pytest.approx(table[name][str(depth)], rel=0.015, abs=0.06)


@needs_reference
def test_steps_to_half_and_nine_tenths_are_those_published():
    published = analyse.read("published.json")[
        "million_env_steps_for_depth_64_to_reach_50_and_90_percent_of_its_final_score"
    ]
    tasks = analyse.published_tasks()
    for name in set(published) - {"how"}:
        difference_in_evaluations = np.subtract(analyse.million_steps(tasks[name]), published[name])
        assert np.abs(difference_in_evaluations).max() <= 1


@needs_reference
def test_at_equal_hours_depth_32_beats_64_on_most_published_tasks():
    comparison = analyse.equal_hours(analyse.published_tasks())
    assert len(comparison.ahead) == 10
    sentence = comparison_verdict(comparison, "wall-clock").sentence
    assert "At equal wall-clock depth 32 beats depth 64 on most tasks" in sentence


@needs_reference
def test_the_page_of_published_curves_is_current():
    page = (analyse.Path(analyse.__file__).parent / "README.md").read_text()
    missing = [line for line in analyse.tables().splitlines() if line not in page]
    assert not missing, "run: python -m results.published_curves.analyse"
