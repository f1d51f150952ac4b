"""Effects of factors as claims, bar plots and tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilolayer.analysis.answer import Plot, Table
from kilolayer.analysis.claims import Claim
from kilolayer.analysis.factorial import Decomposition, Levels, decompose_two_by_two
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import bar_plot, equivalence_margin
from kilolayer.types import UserError


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
