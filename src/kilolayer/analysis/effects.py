"""Factors of two levels each: the effect of each factor and their interactions, and the claims,
plots and tables that show them.

A cell of the full grid is named by its levels, a tuple of 0 and 1 in the order of the factors.
Every effect is a contrast of cell means, with exact weights and Welch's intervals and tests.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilolayer.analysis.answer import Plot, Table
from kilolayer.analysis.claims import Claim
from kilolayer.analysis.differences import CellMeans
from kilolayer.analysis.statistics import (
    RESAMPLES,
    Estimate,
    expanded_percentile_interval,
    validated_scores,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import bar_plot, equivalence_margin
from kilolayer.errors import UserError

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


def code_two_levels(scores: Mapping[tuple[Any, ...], np.ndarray]) -> dict[Levels, np.ndarray]:
    """Code the first value of each factor as 0 and the last as 1; leave out all other cells.

    Numbers are in rising order, words in that of the cells.

    Raises UserError if a factor has one value only.
    """
    ends = []
    for values in zip(*scores, strict=True):
        levels = list(dict.fromkeys(values))
        if len(levels) < 2:
            raise UserError(f"a factor has the one value {levels[0]}: give it two.")
        if not any(isinstance(level, str) for level in levels):
            levels.sort()  # the first cells may lack a value whose runs failed
        ends.append((levels[0], levels[-1]))
    return {
        tuple(int(value == end[1]) for value, end in zip(values, ends, strict=True)): row
        for values, row in scores.items()
        if all(value in end for value, end in zip(values, ends, strict=True))
    }


def two_by_two_evidence(
    study: Study,
    scores: Mapping[tuple[Any, ...], np.ndarray],
    names: tuple[str, str],
    interaction: str,
    total: str,
) -> tuple[list[Claim], Plot, Table]:
    """The evidence of `decompose_two_by_two` between the first and last value of two factors."""
    generator = np.random.default_rng(0)
    decomposition = decompose_two_by_two(code_two_levels(scores), names, interaction, generator)
    return decomposition_evidence(study, decomposition, total)


def decomposition_evidence(
    study: Study, decomposition: Decomposition, total: str
) -> tuple[list[Claim], Plot, Table]:
    """One claim for the total and for each part, a bar plot, and a table with shares.

    total: name of the sum of all parts, such as "the gain from depth".
    """
    effects = {total: decomposition.total, **decomposition.parts}
    margin = equivalence_margin(study)
    claims = [
        Claim(
            f"{name.capitalize()} {'is' if name == total else 'contributes'}",
            effect.estimate, effect.p, study.failed, margin,
        )
        for name, effect in effects.items()
    ]  # fmt: skip
    rows = tuple(
        (name, str(effect.estimate), _percent(effect.share), f"{effect.p:.2g}")
        for name, effect in effects.items()
    )
    title, unit = "Contributions to the gain", "change of the score"
    estimates = {name: effect.estimate for name, effect in effects.items()}
    columns = ("part", unit, "share of the total", "p")
    return claims, bar_plot(title, unit, estimates), Table(title, columns, rows)


def interaction_table(effects: Mapping[tuple[str, str], tuple[Estimate, float]]) -> Table:
    """Two-way interactions with their tests."""
    rows = tuple(
        (" x ".join(pair), str(estimate), f"{p:.2g}") for pair, (estimate, p) in effects.items()
    )
    return Table("Two-way interactions", ("factors", "change of the score", "p"), rows)


def _percent(share: Estimate) -> str:
    """A share beyond 1000 % is not printed: it only shows that the total gain may be 0."""

    def end(value: float) -> str:
        return f"{100 * value:.0f}" if abs(value) < 10 else ("over 1000", "under -1000")[value < 0]

    return f"{end(share.value)} % (95 %: {end(share.low)} to {end(share.high)})"


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
    """rows: every cell's scores `[seeds]`. parts, total: weights `[cells]`.

    Shares are ratios, so their intervals come from a stratified bootstrap over seeds. A resampled
    total near 0 gives a very large ratio, and so a wide interval.
    """
    rows = validated_scores(rows)
    means, weights = CellMeans.from_seeds(rows), np.stack([*parts.values(), total])
    resampled = np.stack(
        [row[generator.integers(len(row), size=(RESAMPLES, len(row)))].mean(-1) for row in rows]
    )
    sizes = [len(row) for row in rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.nan_to_num(weights @ means.mean / (total @ means.mean))
        samples = np.nan_to_num(weights @ resampled / (total @ resampled), nan=0.0)
    effects = []
    for row, value, sample in zip(weights, values.tolist(), samples, strict=True):
        share = expanded_percentile_interval(value, sample, sizes)
        effects.append(Effect(means.estimate(row), share, means.p_two_sided(row)))
    return Decomposition(dict(zip(parts, effects, strict=False)), effects[-1])
