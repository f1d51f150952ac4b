"""Turn claims and their evidence into verdicts. No other module grades evidence.

A claim has an effect with its interval and number of seeds, a p-value, the number of failed runs
and an equivalence margin. The p-values of all claims in one answer are corrected for their number
(Holm).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.statistics import Estimate

INCONCLUSIVE = "inconclusive"
NO_DIFFERENCE = "no difference that matters"
UNTESTED = "estimate without a test"
GRADE_BOUNDS = ((0.01, "strong"), (0.05, "moderate"), (0.1, "weak"))
EVIDENCE_GRADES = tuple(grade for _, grade in GRADE_BOUNDS)
# Fewer seeds may agree by chance and look like no difference.
MIN_SEEDS_FOR_EQUIVALENCE = 5
ROUNDING = 1e-9  # share of the margin; the mean of equal scores is rounded


@dataclass(frozen=True)
class Verdict:
    """A finding as a sentence, made by `assess_claims`, `inconclusive` or `untested_estimate`.

    strength: strong, moderate or weak evidence (corrected p at most 0.01, 0.05, 0.1), or one of
    NO_DIFFERENCE, INCONCLUSIVE and UNTESTED.
    """

    sentence: str
    strength: str

    def __str__(self) -> str:
        return f"{self.sentence} ({self.strength})"


@dataclass(frozen=True)
class Claim:
    """A statement and the evidence for it.

    statement: the sentence up to its effect. p: p-value of the null hypothesis, before correction.
    failed: number of failed runs, which are excluded from the effect. margin: equivalence margin,
    the largest effect that does not matter, in the unit of the effect; None where 0 does not mean
    "no effect". fallback: the statement if the evidence is inconclusive, by default `statement`.
    """

    statement: str
    effect: Estimate
    p: float
    failed: int
    margin: float | None
    fallback: str | None = None

    def with_prefix(self, prefix: str) -> "Claim":
        return dataclasses.replace(self, statement=f"{prefix}: {self.statement}")


def assess_claims(claims: Sequence[Claim]) -> tuple[Verdict, ...]:
    """The verdict on each claim of one answer, in the same order."""
    corrected = holm_correction([claim.p for claim in claims])
    return tuple(
        _verdict(claim, p, len(claims)) for claim, p in zip(claims, corrected, strict=True)
    )


def inconclusive(sentence: str) -> Verdict:
    """The verdict where there are too few runs for a test."""
    return Verdict(sentence, INCONCLUSIVE)


def untested_estimate(sentence: str) -> Verdict:
    """The verdict for a number that is computed from the runs without a test."""
    return Verdict(sentence, UNTESTED)


def holm_correction(p: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false claim among them stays at the level.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65.
    """
    values = np.asarray(p, np.float64)
    order = values.argsort()
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(adjusted, 1)
    return corrected.tolist()


def evidence_strength(p: float) -> str:
    """The grade of a corrected p-value."""
    return next((grade for bound, grade in GRADE_BOUNDS if p <= bound), INCONCLUSIVE)


def _verdict(claim: Claim, p: float, tests: int) -> Verdict:
    strength = NO_DIFFERENCE if _is_equivalent(claim) else evidence_strength(p)
    supported = strength in EVIDENCE_GRADES or claim.fallback is None
    details = f"p = {p:.2g}" + (f" after correction for {tests} claims" if tests > 1 else "")
    if strength == NO_DIFFERENCE:
        details += f"; an effect below {claim.margin:.3g} does not matter"
    if claim.failed:
        runs = "1 failed run is" if claim.failed == 1 else f"{claim.failed} failed runs are"
        details += f"; {runs} excluded"
    statement = claim.statement if supported else claim.fallback
    return Verdict(f"{statement} {claim.effect}, {details}.", strength)


def _is_equivalent(claim: Claim) -> bool:
    """Whether the whole 95 % interval lies within the margin: two one-sided tests at 2.5 %.

    Seeds that all agree give an interval of width 0, up to rounding, which is no evidence.
    """
    effect, margin = claim.effect, claim.margin
    if margin is None or effect.seeds < MIN_SEEDS_FOR_EQUIVALENCE:
        return False
    if effect.high - effect.low <= ROUNDING * margin:
        return False
    return -margin < effect.low and effect.high < margin
