"""Claims become verdicts in one place: corrected, with failures, and "no difference" where due."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.analysis.claims import NO_DIFFERENCE, NOT_ENOUGH, Claim, holm, judged
from kilolayer.analysis.statistics import Estimate

PACKAGE = Path(__file__).parents[2] / "src" / "kilolayer"


def claim(p: float, low: float = 1, high: float = 3, seeds: int = 5, **more) -> Claim:
    settings = {"failed": 0, "margin": None, **more}
    return Claim("It changes by", Estimate((low + high) / 2, low, high, seeds), p, **settings)


@pytest.mark.parametrize(
    ("p", "strength"),
    [(0.01, "strong"), (0.05, "moderate"), (0.1, "weak"), (0.11, NOT_ENOUGH)],
)
def test_the_words_for_a_p_value(p, strength):
    (verdict,) = judged([claim(p)])
    assert verdict.strength == strength
    assert verdict.sentence == f"It changes by 2 (95 %: 1 to 3; 5 seeds), p = {p}."


def test_several_claims_are_corrected_for_their_number():
    """Holm by hand: 0.02 * 3, then 0.03 * 2 which is raised to it, then 0.5."""
    assert holm([0.5, 0.02, 0.03]) == pytest.approx([0.5, 0.06, 0.06])
    found = judged([claim(0.5), claim(0.02), claim(0.03)])
    assert [verdict.strength for verdict in found] == [NOT_ENOUGH, "weak", "weak"]
    assert found[1].sentence.endswith("p = 0.06 after correction for 3 claims.")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_values_keep_their_order_and_lie_between_alone_and_all(p):
    corrected = holm(p)
    for alone, after in zip(p, corrected, strict=True):
        assert alone - 1e-12 <= after <= min(1, alone * len(p)) + 1e-12 or after == max(corrected)
    order = sorted(range(len(p)), key=p.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_an_interval_within_the_margin_is_no_difference_that_matters():
    (verdict,) = judged([claim(0.6, -2, 3, margin=5.0, otherwise="It may change by")])
    assert verdict.strength == NO_DIFFERENCE
    assert verdict.sentence == (
        "It may change by 0.5 (95 %: -2 to 3; 5 seeds), p = 0.6; less than 5 either way does not "
        "matter."
    )
    # A difference for certain that is too small to matter is none that does.
    assert judged([claim(0.001, 1, 3, margin=5.0)])[0].strength == NO_DIFFERENCE


@pytest.mark.parametrize(
    "open_still",
    [
        claim(0.6, -2, 6, margin=5.0),
        claim(0.6, -1, 1, seeds=4, margin=5.0),
        claim(1.0, 0, 0, seeds=9, margin=5.0),
    ],
)
def test_a_wide_interval_few_seeds_and_seeds_that_all_agree_leave_it_open(open_still):
    assert judged([open_still])[0].strength == NOT_ENOUGH


def test_failed_runs_are_part_of_the_sentence():
    assert judged([claim(0.6, failed=1)])[0].sentence.endswith("; 1 run failed and count nowhere.")


def test_no_other_module_grades_a_finding():
    """A strength is a word of `claims`: elsewhere nothing is graded, and no Verdict is made."""
    graded = re.compile(r"Verdict\(|[^=][\"'](strong|moderate|weak)[\"']")
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "claims.py"]
    found = {
        path.name
        for path in others
        for line in path.read_text().splitlines()
        if graded.search(line)
    }
    # `answer` reads back what was written.
    assert found == {"answer.py"}
