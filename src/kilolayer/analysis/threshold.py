"""How many environment steps a run needs to reach a share of its final score."""

import dataclasses

import numpy as np

from kilolayer.analysis.differences import Difference, permutation_p_value
from kilolayer.analysis.statistics import RESAMPLES, Estimate, expanded_percentile_interval
from kilolayer.errors import UserError

WINDOW = 5  # evaluations of a trailing mean, as in the published figures (arXiv 2503.14858)


def trailing_mean(values: np.ndarray) -> np.ndarray:
    """Mean over each window of evaluations, `[..., n] -> [..., n - WINDOW + 1]`; raises UserError
    if there are fewer than `WINDOW` evaluations."""
    values = np.asarray(values, np.float64)
    if values.shape[-1] < WINDOW:
        raise UserError(
            f"a trailing mean of {WINDOW} evaluations needs {WINDOW} evaluations and there are "
            f"{values.shape[-1]}: evaluate more often."
        )
    return np.lib.stride_tricks.sliding_window_view(values, WINDOW, -1).mean(-1)


def steps_to_share(steps: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Steps of the first evaluation whose trailing mean reaches a share of the last one.

    steps `[evaluations]`, scores `[..., evaluations]` -> `[...]`; infinite where the final score is
    not positive. Raises UserError unless share lies in (0, 1].
    """
    if not 0 < share <= 1:
        raise UserError(f"share = {share} is not allowed: it lies between 0 and 1, such as 0.9.")
    smooth = trailing_mean(scores)
    final = smooth[..., -1]
    reached = (smooth >= share * final[..., None]).argmax(-1)
    return np.where(final > 0, np.asarray(steps, np.float64)[WINDOW - 1 :][reached], np.inf)


def estimate_steps_to_share(
    steps: np.ndarray,
    scores: np.ndarray,
    share: float,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate:
    """`steps_to_share` of the mean curve of scores `[seeds, evaluations]`, bootstrapped over seeds.

    The interval is cut at the end of the run. Raises UserError for a single seed and where the
    final score is not positive.
    """
    value = float(steps_to_share(steps, _validated(scores).mean(0), share))
    if not np.isfinite(value):
        raise UserError("the final score is not positive, so a share of it is not defined.")
    samples = _bootstrap_steps(steps, scores, share, generator, resamples)
    estimate = expanded_percentile_interval(value, samples, [len(scores)])
    return dataclasses.replace(estimate, high=min(estimate.high, float(steps[-1])))


def steps_to_share_delay(
    steps: np.ndarray,
    scores: np.ndarray,
    baseline: np.ndarray,
    share: float,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Difference:
    """Steps by which the mean curve of `scores` reaches its share later than that of `baseline`.

    Both are `[seeds, evaluations]`. The test permutes the seeds' curves between the two groups. A
    curve that never reaches its share is counted with the last step of the run.
    """
    curves = np.concatenate([_validated(scores), _validated(baseline)])

    def delay(group: np.ndarray, reference: np.ndarray, axis: int) -> np.ndarray:
        first, second = (
            np.minimum(steps_to_share(steps, curves[rows].mean(-2), share), steps[-1])
            for rows in (np.moveaxis(group, axis, -1), np.moveaxis(reference, axis, -1))
        )
        return first - second

    first, second = (
        np.minimum(_bootstrap_steps(steps, each, share, generator, resamples), steps[-1])
        for each in (scores, baseline)
    )
    group, reference = np.split(np.arange(len(curves)), [len(scores)])
    value, sizes = float(delay(group, reference, -1)), [len(scores), len(baseline)]
    interval = expanded_percentile_interval(value, first - second, sizes)
    return Difference(interval, float(permutation_p_value(group, reference, delay)))


def _bootstrap_steps(
    steps: np.ndarray,
    scores: np.ndarray,
    share: float,
    generator: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """`steps_to_share` of resampled mean curves, `[resamples]`."""
    seeds = len(scores)
    # Counts per seed: their product with the curves avoids a copy of the curves per resample.
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return steps_to_share(steps, counts @ scores / seeds, share)


def _validated(scores: np.ndarray) -> np.ndarray:
    if len(scores) < 2:
        raise UserError("an interval needs at least two seeds and there is one: run more seeds.")
    return np.asarray(scores, np.float64)
