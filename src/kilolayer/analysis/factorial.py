"""Factors of two levels each: the effect of each factor, and their interactions.

A cell of the full grid is named by its levels, a tuple of 0 and 1 in the order of the factors.
Every effect is a weighted sum of cell means, with exact weights and Welch's intervals and tests.
Shares are ratios, so their intervals come from a bootstrap (`share_intervals`).
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.contrasts import Cells
from kilolayer.analysis.statistics import RESAMPLES, Estimate, checked, expanded_interval
from kilolayer.types import UserError

Levels = tuple[int, ...]


@dataclass(frozen=True)
class Effect:
    """A weighted sum of cell means. share: of the total gain. p: two-sided, of effect = 0."""

    value: Estimate
    share: Estimate
    p: float


@dataclass(frozen=True)
class Split:
    """Parts that add up to `total`, the gain from all factors at 0 to all at 1."""

    parts: dict[str, Effect]
    total: Effect


def two_by_two(
    scores: Mapping[Levels, np.ndarray],
    names: tuple[str, str],
    together: str,
    generator: np.random.Generator,
) -> Split:
    """Split a gain into the effect of each factor alone and their interaction.

    scores: `{(0, 0): [seeds], ...}`, all four cells. The first two parts start from both factors at
    0. The third, named `together`, is the interaction v11 - v10 - v01 + v00.
    """
    cells = _grid(scores, 2)
    order = {levels: place for place, levels in enumerate(cells)}

    def weights(**at: int) -> np.ndarray:
        row = np.zeros(4)
        for name, weight in at.items():
            row[order[int(name[1]), int(name[2])]] = weight
        return row

    parts = {
        names[0]: weights(v10=1, v00=-1),
        names[1]: weights(v01=1, v00=-1),
        together: weights(v11=1, v10=-1, v01=-1, v00=1),
    }
    return _split([scores[levels] for levels in cells], parts, weights(v11=1, v00=-1), generator)


def shapley_values(
    scores: Mapping[Levels, np.ndarray], names: tuple[str, ...], generator: np.random.Generator
) -> Split:
    """Each factor's gain, averaged over all orders in which the factors can be switched on.

    This is the only division that adds up to the total gain, treats equal factors alike and gives
    0 to a factor without effect (Shapley 1953).
    """
    count = len(names)
    cells = _grid(scores, count)
    parts = {
        name: np.array([_shapley_weight(levels, place) for levels in cells])
        for place, name in enumerate(names)
    }
    total = np.array([float(all(levels)) - float(not any(levels)) for levels in cells])
    return _split([scores[levels] for levels in cells], parts, total, generator)


def interactions(
    scores: Mapping[Levels, np.ndarray], names: tuple[str, ...]
) -> dict[tuple[str, str], tuple[Estimate, float]]:
    """For each pair: how much larger the effect of one factor is when the other is on, and its p.

    Averaged over the levels of all other factors.
    """
    cells = _grid(scores, len(names))
    means = Cells.from_seeds([scores[levels] for levels in cells])
    found = {}
    for first, second in itertools.combinations(range(len(names)), 2):
        sign = [1.0 if levels[first] == levels[second] else -1.0 for levels in cells]
        weights = np.array(sign) / 2 ** (len(names) - 2)
        pair = (names[first], names[second])
        found[pair] = (means.estimate(weights), means.p_not_zero(weights))
    return found


def _grid(scores: Mapping[Levels, np.ndarray], count: int) -> list[Levels]:
    cells: list[Levels] = list(itertools.product((0, 1), repeat=count))
    missing = [levels for levels in cells if levels not in scores]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(cells)} combinations of {count} factors have no finished "
            "run: finish the study first."
        )
    return cells


def _shapley_weight(levels: Levels, place: int) -> float:
    """Weight of a cell in a factor's Shapley value: positive if the factor is on, else negative."""
    count = len(levels)
    others = sum(levels) - levels[place]
    weight = math.factorial(others) * math.factorial(count - 1 - others) / math.factorial(count)
    return weight if levels[place] else -weight


def _split(
    rows: list[np.ndarray],
    parts: Mapping[str, np.ndarray],
    total: np.ndarray,
    generator: np.random.Generator,
) -> Split:
    means = Cells.from_seeds(rows)
    weights = np.stack([*parts.values(), total])
    shares = share_intervals(rows, weights, total, generator)
    effects = [
        Effect(means.estimate(row), share, means.p_not_zero(row))
        for row, share in zip(weights, shares, strict=True)
    ]
    return Split(dict(zip(parts, effects, strict=False)), effects[-1])


def share_intervals(
    rows: list[np.ndarray],
    weights: np.ndarray,
    total: np.ndarray,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """Each weighted sum divided by the total, with a stratified bootstrap interval over seeds.

    rows: every cell's scores `[seeds]`; weights `[sums, cells]`, total `[cells]`. A resampled total
    near 0 gives a very large ratio and a very wide interval, as it should.
    """
    rows = checked(rows)
    drawn = np.stack(
        [row[generator.integers(len(row), size=(resamples, len(row)))].mean(-1) for row in rows]
    )
    mean = np.array([row.mean() for row in rows])
    sizes = [len(row) for row in rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = weights @ mean / (total @ mean)
        samples = np.nan_to_num(weights @ drawn / (total @ drawn), nan=0.0)
    return [
        expanded_interval(float(np.nan_to_num(value)), sample, sizes)
        for value, sample in zip(values, samples, strict=True)
    ]
