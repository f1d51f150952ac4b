"""Statistics of few seeds: every value comes with its interval and the number of seeds.

Scores of several tasks are passed as strata: one array `[seeds]` per task, of any length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from kilolayer.errors import UserError

CONFIDENCE = 0.95
RESAMPLES = 2000
PERMUTATIONS = 9999
UNBOUNDED = (-np.inf, np.inf)


def number_text(value: float) -> str:
    """Three significant digits, such as 0.0123, 52.5 or 525,000."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1e3 <= abs(rounded) < 1e9 else f"{value:.3g}"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval. seeds: the fewest seeds of any group it is computed from."""

    value: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        value, low, high = map(number_text, (self.value, self.low, self.high))
        return f"{value} (95 %: {low} to {high}; {self.seeds} seeds)"


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis, `[..., scores] -> [...]`.

    If a quarter of the number of scores is not an integer, the outermost middle scores have a
    partial weight. With three scores, the median has weight 1 and each other score 1/4.
    """
    count = scores.shape[-1]
    rank = np.arange(count)
    inside = np.minimum(rank + 1, 0.75 * count) - np.maximum(rank, 0.25 * count)
    weight = np.clip(inside, 0, 1)
    return np.sort(scores, axis=-1) @ (weight / weight.sum())


def mean_interval(scores: np.ndarray, bounds: tuple[float, float] = UNBOUNDED) -> Estimate:
    """Mean of the scores `[seeds]` of one task with Student's interval, cut to `bounds`.

    bounds: the least and the greatest possible score. The true mean lies within them, so the cut
    does not reduce coverage.

    For one task this interval is better than the bootstrap. A bootstrap interval never exceeds the
    range of the seeds, and the range of three seeds misses a normal mean one time in four. Raises
    UserError for a single seed.
    """
    (scores,) = validated_scores([scores])
    value, error = scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores))
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1) * error
    low, high = np.clip([value - margin, value + margin], *bounds)
    return Estimate(float(value), float(low), float(high), len(scores))


def proportion_interval(successes: int, trials: int) -> Estimate:
    """Proportion of independent trials that succeeded, with Wilson's interval; `seeds` is trials.

    Raises UserError for no trials. Source: Wilson (1927), Journal of the American Statistical
    Association 22:209.
    """
    if trials < 1:
        raise UserError("a proportion needs at least one trial.")
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high), trials)


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A statistic over the scores of all tasks; seeds are resampled within each task.

    statistic: `[..., scores] -> [...]`, such as `interquartile_mean`, applied to the scores of all
    tasks in one row. Raises UserError if a task has a single seed or a score that is not finite.
    Source: arXiv 2108.13264, section 4.1; the interval comes from `expanded_percentile_interval`.
    """
    strata = validated_scores(strata)
    resampled = [
        scores[generator.integers(len(scores), size=(resamples, len(scores)))] for scores in strata
    ]
    value = float(statistic(np.concatenate(strata)))
    return expanded_percentile_interval(
        value, statistic(np.concatenate(resampled, -1)), [len(scores) for scores in strata]
    )


def expanded_percentile_interval(
    value: float, samples: np.ndarray, sizes: Sequence[int]
) -> Estimate:
    """Interval from bootstrap samples `[resamples]`. sizes: number of seeds of each stratum.

    The percentiles lie further out than the nominal ones: resampling n seeds underestimates their
    variance by (n - 1)/n and treats it as known (Hesterberg 2015, arXiv 1411.5279, section 3.5).
    """
    fewest, degrees = min(sizes), sum(sizes) - len(sizes)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(fewest / (fewest - 1))
    # The nearest sample, since a sample may be infinite and must not be interpolated.
    low, high = np.quantile(samples, special.ndtr([-quantile, quantile]), method="nearest")
    return Estimate(value, float(low), float(high), fewest)


def probability_of_improvement(
    scores: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> Estimate:
    """Probability that a run of `scores` beats one of `baseline` on the same task, mean over tasks.

    Ties count half (the Mann-Whitney statistic). The interval solves (estimate - p)^2 = z^2 V(p)
    with the variance of Newcombe (2006, Statistics in Medicine 25:559, method 5), averaged over
    tasks. Unlike a bootstrap interval it has a positive width even if every run wins. Raises
    UserError if a task has a single seed or the two differ in their number of tasks.
    """
    scores, baseline = validated_scores(scores), validated_scores(baseline)
    if len(scores) != len(baseline):
        raise UserError(
            f"{len(scores)} tasks cannot be compared with {len(baseline)}: give both the same "
            "tasks."
        )
    pairs = list(zip(scores, baseline, strict=True))
    signs = [np.sign(row[:, None] - other).mean() for row, other in pairs]
    value = float(np.mean([(sign + 1) / 2 for sign in signs]))
    quantile = stats.norm.ppf((1 + CONFIDENCE) / 2)

    def outside(p: float) -> float:
        """Positive where p lies outside the interval."""
        variance = np.mean([_win_rate_variance(p, len(row), len(other)) for row, other in pairs])
        return float((value - p) ** 2 - quantile**2 * variance / len(pairs))

    # At 0 and at 1 the variance is 0, so the estimate itself would be taken as a bound.
    inside = float(np.clip(value, 1e-9, 1 - 1e-9))
    low = 0.0 if value == 0 else optimize.root_scalar(outside, bracket=(0, inside)).root
    high = 1.0 if value == 1 else optimize.root_scalar(outside, bracket=(inside, 1)).root
    return Estimate(value, float(low), float(high), min(map(len, [*scores, *baseline])))


def improvement_p_value(
    scores: Sequence[np.ndarray], baseline: Sequence[np.ndarray], generator: np.random.Generator
) -> float:
    """Two-sided p-value of the null hypothesis that `scores` and `baseline` win equally often.

    A rank test that permutes the runs within each task, `PERMUTATIONS` times.
    """
    permuted, observed = np.zeros(PERMUTATIONS), 0.0
    for row, other in zip(validated_scores(scores), validated_scores(baseline), strict=True):
        ranks = stats.rankdata(np.concatenate([row, other]))
        ranks = (ranks - ranks.mean()) / (len(row) * len(other))
        shuffled = generator.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)
        permuted += shuffled[:, : len(row)].sum(1)
        observed += ranks[: len(row)].sum()
    at_least = np.abs(permuted) >= abs(observed) - 1e-9
    return float((1 + at_least.sum()) / (1 + PERMUTATIONS))


def performance_profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> list[Estimate]:
    """Share of all runs that score above each threshold (arXiv 2108.13264, section 4.2).

    The interval is Wilson's for the number of all runs. Since tasks differ, it is conservative.
    Raises UserError for a single seed.
    """
    scores = np.concatenate(validated_scores(strata))
    return [proportion_interval(int((scores > each).sum()), len(scores)) for each in thresholds]


def validated_scores(strata: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The strata as float64 rows `[seeds]`; raises UserError if they allow no interval."""
    rows = [np.asarray(scores, np.float64) for scores in strata]
    if not rows:
        raise UserError("there are no scores: give at least one task with two seeds.")
    for row in rows:
        if row.ndim != 1:
            raise UserError(f"scores have the shape {row.shape}: give one array of seeds per task.")
        if len(row) < 2:
            raise UserError(
                f"an interval needs at least two seeds and there is {len(row)}: run more seeds."
            )
        if not np.isfinite(row).all():
            raise UserError("a score is not finite: exclude its run and say so.")
    return rows


def _win_rate_variance(p: float, seeds: int, other_seeds: int) -> float:
    mean_count = (seeds + other_seeds) / 2 - 1
    growth = 1 + mean_count * ((1 - p) / (2 - p) + p / (1 + p))
    return p * (1 - p) * growth / (seeds * other_seeds)
