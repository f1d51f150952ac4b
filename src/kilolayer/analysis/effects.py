"""Effects of factors in words, bars and tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilolayer.analysis.answer import Plot, Table
from kilolayer.analysis.claims import Claim
from kilolayer.analysis.factorial import Levels, Split
from kilolayer.analysis.outcomes import bars, margin_of
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.study import Study
from kilolayer.types import UserError


def two_levels(scores: Mapping[tuple[Any, ...], np.ndarray]) -> dict[Levels, np.ndarray]:
    """Code the first value of each factor as 0 and the last as 1; leave out all other cells.

    Raises UserError if a factor has one value only.
    """
    ends = []
    for values in zip(*scores, strict=True):
        levels = list(dict.fromkeys(values))
        if len(levels) < 2:
            raise UserError(f"a factor has the one value {levels[0]}: give it two.")
        ends.append((levels[0], levels[-1]))
    return {
        tuple(int(value == end[1]) for value, end in zip(values, ends, strict=True)): row
        for values, row in scores.items()
        if all(value in end for value, end in zip(values, ends, strict=True))
    }


def split_parts(study: Study, split: Split, whole: str) -> tuple[list[Claim], Plot, Table]:
    """One claim for the gain and for each part, a bar plot, and a table with shares.

    whole: what the parts add up to, such as "the gain from depth".
    """
    effects = {whole: split.total, **split.parts}
    margin = margin_of(study)
    claims = [
        Claim(
            f"{name.capitalize()} {'is' if name == whole else 'brings'}",
            effect.value, effect.p, study.failed, margin,
        )
        for name, effect in effects.items()
    ]  # fmt: skip
    rows = tuple(
        (name, str(effect.value), _percent(effect.share), f"{effect.p:.2g}")
        for name, effect in effects.items()
    )
    estimates = {name: effect.value for name, effect in effects.items()}
    return (
        claims,
        bars("What belongs to which", "change of the score", estimates),
        Table("What belongs to which", ("part", "change of the score", "share", "p"), rows),
    )


def interaction_table(found: Mapping[tuple[str, str], tuple[Estimate, float]]) -> Table:
    """Two-way interactions with their tests."""
    rows = tuple(
        (" x ".join(pair), str(estimate), f"{p:.2g}") for pair, (estimate, p) in found.items()
    )
    return Table(
        "How much more one brings beside the other", ("factors", "change of the score", "p"), rows
    )


def _percent(share: Estimate) -> str:
    """A share beyond 1000 % is not printed: it only shows that the total gain may be 0."""

    def end(value: float) -> str:
        return f"{100 * value:.0f}" if abs(value) < 10 else ("over 1000", "under -1000")[value < 0]

    return f"{end(share.value)} % (95 %: {end(share.low)} to {end(share.high)})"
