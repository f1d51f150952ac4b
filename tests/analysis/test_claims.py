"""Claims and verdicts: correction, failed runs, "no difference", inconclusive."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.analysis.claims import (
    INCONCLUSIVE,
    NO_DIFFERENCE,
    Claim,
    assess_claims,
    holm_correction,
)
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.statistics import Estimate

PACKAGE = Path(__file__).parents[2] / "src" / "kilolayer"


def claim(p: float, low: float = 1, high: float = 3, seeds: int = 5, **more) -> Claim:
    settings = {"failed": 0, "margin": None, **more}
    return Claim("It changes by", Estimate((low + high) / 2, low, high, seeds), p, **settings)


@pytest.mark.parametrize(
    ("p", "strength"),
    [(0.01, "strong"), (0.05, "moderate"), (0.1, "weak"), (0.11, INCONCLUSIVE)],
)
def test_p_value_determines_strength(p, strength):
    (verdict,) = assess_claims([claim(p)])
    assert verdict.strength == strength
    assert verdict.sentence == f"It changes by 2 (95 %: 1 to 3; 5 seeds), p = {p}."


def test_p_values_of_several_claims_are_holm_corrected():
    """Holm by hand: 0.02 * 3; 0.03 * 2, which is not below it; 0.5."""
    assert holm_correction([0.5, 0.02, 0.03]) == pytest.approx([0.5, 0.06, 0.06])
    found = assess_claims([claim(0.5), claim(0.02), claim(0.03)])
    assert [verdict.strength for verdict in found] == [INCONCLUSIVE, "weak", "weak"]
    assert found[1].sentence.endswith("p = 0.06 after correction for 3 claims.")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_correction_keeps_order_and_is_at_most_bonferroni(p):
    corrected = holm_correction(p)
    for alone, after in zip(p, corrected, strict=True):
        assert alone - 1e-12 <= after <= min(1, alone * len(p)) + 1e-12 or after == max(corrected)
    order = sorted(range(len(p)), key=p.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_interval_within_margin_is_no_difference():
    (verdict,) = assess_claims([claim(0.6, -2, 3, margin=5.0, fallback="It may change by")])
    assert verdict.strength == NO_DIFFERENCE
    assert verdict.sentence == (
        "It may change by 0.5 (95 %: -2 to 3; 5 seeds), p = 0.6; an effect below 5 does not matter."
    )
    # A significant difference below the margin does not matter.
    assert assess_claims([claim(0.001, 1, 3, margin=5.0)])[0].strength == NO_DIFFERENCE


@pytest.mark.parametrize(
    "undecided",
    [
        claim(0.6, -2, 6, margin=5.0),
        claim(0.6, -1, 1, seeds=4, margin=5.0),
        claim(1.0, 0, 0, seeds=9, margin=5.0),
    ],
)
def test_wide_interval_few_seeds_or_zero_variance_is_inconclusive(undecided):
    assert assess_claims([undecided])[0].strength == INCONCLUSIVE


@pytest.mark.parametrize(("score", "seeds"), [(0.3, 5), (0.1, 6), (0.3, 10)])
def test_seeds_that_all_agree_are_no_evidence_despite_rounding(score, seeds):
    """The standard deviation of ten numbers 0.3 is 1e-16."""
    scores = np.full(seeds, score)
    found = mean_difference(scores, scores)
    (verdict,) = assess_claims([Claim("It changes by", found.estimate, found.p, 0, margin=0.05)])
    assert verdict.strength == INCONCLUSIVE


def test_verdict_states_number_of_failed_runs():
    assert assess_claims([claim(0.6, failed=1)])[0].sentence.endswith("; 1 failed run is excluded.")


def test_only_claims_module_grades_evidence():
    """Other modules contain no grade of evidence and create no Verdict."""
    graded = re.compile(r"Verdict\(|[^=][\"'](strong|moderate|weak)[\"']")
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "claims.py"]
    found = {
        path.name
        for path in others
        for line in path.read_text().splitlines()
        if graded.search(line)
    }
    assert found == set()
