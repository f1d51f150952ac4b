"""Turn claims and their evidence into verdicts in words. No other module does this.

A claim needs its interval, number of seeds, p-value, number of failed runs and the smallest effect
that matters. The p-values of several claims in one answer are corrected for their number (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.statistics import Estimate

NOT_ENOUGH = "not enough seeds to tell"
NO_DIFFERENCE = "no difference that matters"
ESTIMATED = "an estimate, not a test"
STRENGTHS = ((0.01, "strong"), (0.05, "moderate"), (0.1, "weak"))
EVIDENCE = tuple(word for _, word in STRENGTHS)
# Fewer seeds may agree by chance and look like no difference.
SEEDS_FOR_NO_DIFFERENCE = 5


@dataclass(frozen=True)
class Verdict:
    """A finding in plain words, made by `judged`, `unsettled` or `estimated`.

    strength: strong, moderate or weak evidence (corrected p at most 0.01, 0.05, 0.1), or one of
    NO_DIFFERENCE, NOT_ENOUGH and ESTIMATED.
    """

    sentence: str
    strength: str

    def __str__(self) -> str:
        return f"{self.sentence} ({self.strength})"


@dataclass(frozen=True)
class Claim:
    """A statement and the evidence for it.

    says: the sentence up to its effect. p: of the claim's null hypothesis, before any correction.
    failed: the number of failed runs, which the effect leaves out. margin: the largest effect that
    does not matter, in the unit of the effect; None where 0 does not mean "no effect". otherwise:
    the sentence if the evidence does not support the claim, by default `says`.
    """

    says: str
    effect: Estimate
    p: float
    failed: int
    margin: float | None
    otherwise: str | None = None


def judged(claims: Sequence[Claim]) -> tuple[Verdict, ...]:
    """The claims of one answer with their strengths, in the same order."""
    corrected = holm([claim.p for claim in claims])
    return tuple(
        _verdict(claim, p, len(claims)) for claim, p in zip(claims, corrected, strict=True)
    )


def unsettled(sentence: str) -> Verdict:
    """A statement that could not be tested, because there are too few runs."""
    return Verdict(sentence, NOT_ENOUGH)


def estimated(sentence: str) -> Verdict:
    """A number computed from the runs without a test."""
    return Verdict(sentence, ESTIMATED)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false claim among them stays at the level.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65.
    """
    values = np.asarray(p, np.float64)
    order = values.argsort()
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(raised, 1)
    return corrected.tolist()


def strength(p: float) -> str:
    """The word for a corrected p-value."""
    return next((word for bound, word in STRENGTHS if p <= bound), NOT_ENOUGH)


def _verdict(claim: Claim, p: float, tests: int) -> Verdict:
    word = NO_DIFFERENCE if _is_negligible(claim) else strength(p)
    opening = claim.says if word in EVIDENCE or claim.otherwise is None else claim.otherwise
    tail = f"p = {p:.2g}" + (f" after correction for {tests} claims" if tests > 1 else "")
    if word == NO_DIFFERENCE:
        tail += f"; less than {claim.margin:.3g} either way does not matter"
    if claim.failed:
        runs = "1 run" if claim.failed == 1 else f"{claim.failed} runs"
        tail += f"; {runs} failed and count nowhere"
    return Verdict(f"{opening} {claim.effect}, {tail}.", word)


def _is_negligible(claim: Claim) -> bool:
    """Whether the whole 95 % interval lies within the margin: two one-sided tests at 2.5 %.

    Seeds that all agree give an interval of width 0, which is no evidence.
    """
    effect, margin = claim.effect, claim.margin
    few = effect.seeds < SEEDS_FOR_NO_DIFFERENCE or effect.low == effect.high
    if margin is None or few:
        return False
    return -margin < effect.low and effect.high < margin
