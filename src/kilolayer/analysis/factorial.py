"""Factors of two levels each: the effect of each factor, and their interactions.

A cell of the full grid is named by its levels, a tuple of 0 and 1 in the order of the factors.
Every effect is a contrast of cell means, with exact weights and Welch's intervals and tests.
Shares are ratios, so their intervals come from a bootstrap (`share_intervals`).
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.contrasts import CellMeans
from kilolayer.analysis.statistics import (
    RESAMPLES,
    Estimate,
    expanded_percentile_interval,
    validated_scores,
)
from kilolayer.types import UserError

Levels = tuple[int, ...]


@dataclass(frozen=True)
class Effect:
    """A contrast of cell means. share: of the total gain. p: two-sided, of effect = 0."""

    estimate: Estimate
    share: Estimate
    p: float


@dataclass(frozen=True)
class Decomposition:
    """Parts that add up to `total`, the gain from all factors at 0 to all factors at 1."""

    parts: dict[str, Effect]
    total: Effect


def decompose_two_by_two(
    scores: Mapping[Levels, np.ndarray],
    names: tuple[str, str],
    interaction: str,
    generator: np.random.Generator,
) -> Decomposition:
    """Split a gain into the effect of each factor alone and their interaction.

    scores: `{(0, 0): [seeds], ...}`, all four cells. The first two parts start from both factors at
    0. The third, named `interaction`, is v11 - v10 - v01 + v00.
    """
    cells = _full_grid(scores, 2)
    # Weights of v00, v01, v10, v11.
    parts = {
        names[0]: np.array([-1.0, 0.0, 1.0, 0.0]),
        names[1]: np.array([-1.0, 1.0, 0.0, 0.0]),
        interaction: np.array([1.0, -1.0, -1.0, 1.0]),
    }
    total = np.array([-1.0, 0.0, 0.0, 1.0])
    return _decomposition([scores[levels] for levels in cells], parts, total, generator)


def shapley_decomposition(
    scores: Mapping[Levels, np.ndarray], names: tuple[str, ...], generator: np.random.Generator
) -> Decomposition:
    """Each factor's gain, averaged over all orders in which the factors can be switched on.

    This is the only division that adds up to the total gain, treats equal factors alike and gives
    0 to a factor without effect (Shapley 1953).
    """
    cells = _full_grid(scores, len(names))
    parts = {
        name: np.array([_shapley_weight(levels, factor) for levels in cells])
        for factor, name in enumerate(names)
    }
    total = np.array([float(all(levels)) - float(not any(levels)) for levels in cells])
    return _decomposition([scores[levels] for levels in cells], parts, total, generator)


def two_way_interactions(
    scores: Mapping[Levels, np.ndarray], names: tuple[str, ...]
) -> dict[tuple[str, str], tuple[Estimate, float]]:
    """For each pair: how much larger the effect of one factor is if the other is on, and its p.

    Averaged over the levels of all other factors.
    """
    cells = _full_grid(scores, len(names))
    means = CellMeans.from_seeds([scores[levels] for levels in cells])
    interactions = {}
    for first, second in itertools.combinations(range(len(names)), 2):
        sign = [1.0 if levels[first] == levels[second] else -1.0 for levels in cells]
        weights = np.array(sign) / 2 ** (len(names) - 2)
        pair = (names[first], names[second])
        interactions[pair] = (means.estimate(weights), means.p_two_sided(weights))
    return interactions


def _full_grid(scores: Mapping[Levels, np.ndarray], count: int) -> list[Levels]:
    cells: list[Levels] = list(itertools.product((0, 1), repeat=count))
    missing = [levels for levels in cells if levels not in scores]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(cells)} combinations of {count} factors have no finished "
            "run: finish the study first."
        )
    return cells


def _shapley_weight(levels: Levels, factor: int) -> float:
    """Weight of a cell in a factor's Shapley value: positive if the factor is on, else negative."""
    count = len(levels)
    others = sum(levels) - levels[factor]
    weight = math.factorial(others) * math.factorial(count - 1 - others) / math.factorial(count)
    return weight if levels[factor] else -weight


def _decomposition(
    rows: list[np.ndarray],
    parts: Mapping[str, np.ndarray],
    total: np.ndarray,
    generator: np.random.Generator,
) -> Decomposition:
    means = CellMeans.from_seeds(rows)
    weights = np.stack([*parts.values(), total])
    shares = share_intervals(rows, weights, total, generator)
    effects = [
        Effect(means.estimate(row), share, means.p_two_sided(row))
        for row, share in zip(weights, shares, strict=True)
    ]
    return Decomposition(dict(zip(parts, effects, strict=False)), effects[-1])


def share_intervals(
    rows: list[np.ndarray],
    weights: np.ndarray,
    total: np.ndarray,
    generator: np.random.Generator,
) -> list[Estimate]:
    """Each contrast divided by the total, with a stratified bootstrap interval over seeds.

    rows: every cell's scores `[seeds]`; weights `[contrasts, cells]`, total `[cells]`. A resampled
    total near 0 gives a very large ratio, and so a wide interval.
    """
    rows = validated_scores(rows)
    resampled = np.stack(
        [row[generator.integers(len(row), size=(RESAMPLES, len(row)))].mean(-1) for row in rows]
    )
    mean = np.array([row.mean() for row in rows])
    sizes = [len(row) for row in rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = weights @ mean / (total @ mean)
        samples = np.nan_to_num(weights @ resampled / (total @ resampled), nan=0.0)
    return [
        expanded_percentile_interval(float(np.nan_to_num(value)), sample, sizes)
        for value, sample in zip(values, samples, strict=True)
    ]
