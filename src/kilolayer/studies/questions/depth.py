"""Does depth raise the score, where does the score jump, and where does it saturate?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import Claim, assess_claims, inconclusive
from kilolayer.analysis.depth import (
    DepthScores,
    critical_claim,
    critical_depth,
    monotonicity,
    monotonicity_claim,
    saturation_claim,
    saturation_depth,
)
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    difference_claim,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import by_depth

TOO_FEW = "A comparison needs two depths with two seeds each."
CRITICAL_NOTE = (
    "A depth is critical if one step in depth contributes more than half of the total gain from "
    "depth and no deeper network loses it. A step that spans more than half of the doublings in "
    "depth must also contribute more than its share of them. The test is an intersection of Welch "
    "tests; its p-value is doubled for the selection of the step."
)


def grids(setup: Setup) -> list[Grid]:
    return [setup.grid({"depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    scores = scores_by(study, "depth")
    evidence = depth_claims(study, scores)
    series = (score_series(study, "final score", scores),)
    return Answer(
        verdicts=assess_claims(evidence.claims) or (inconclusive(TOO_FEW),),
        plots=(
            Plot(
                "Score by depth", DEPTH_AXIS, SCORE_AXIS, series, log_x=True, marks=evidence.marks
            ),
        ),
        tables=(score_table(study, "depth"),),
        notes=(SCORE_NOTE, *evidence.notes),
    )


@dataclass(frozen=True)
class DepthClaims:
    """marks: of the plot. notes: on the methods and on excluded depths."""

    claims: tuple[Claim, ...]
    marks: tuple[tuple[float, str], ...]
    notes: tuple[str, ...]


def depth_claims(study: Study, scores: Mapping[int, np.ndarray]) -> DepthClaims:
    """Claims about depth from scores `{depth: [seeds]}`; the first compares the two extreme depths.

    Depths with one seed are excluded, and a note lists them. If fewer than two depths remain,
    there are no claims.
    """
    replicated = {depth: row for depth, row in scores.items() if len(row) > 1}
    single = [depth for depth in scores if depth not in replicated]
    notes = [f"Depths with one seed, excluded from the tests: {single}."] if single else []
    if len(replicated) < 2:
        return DepthClaims((), (), tuple(notes))
    shallow, deep = min(replicated), max(replicated)
    change = mean_difference(replicated[deep], replicated[shallow])
    statement = f"From depth {shallow} to {deep} the score changes by"
    claims, marks = [difference_claim(study, statement, change)], []
    by_depth = DepthScores.from_seeds(replicated)
    if len(replicated) > 2:
        critical = critical_depth(by_depth)
        claims.append(critical_claim(critical, study.failed))
        marks.append((float(critical.depth), f"largest step: to depth {critical.depth}"))
        notes.append(CRITICAL_NOTE)
    if by_depth.mean.max() > 0:
        claims.append(saturation_claim(saturation_depth(by_depth), study.failed))
    claims.append(monotonicity_claim(monotonicity(by_depth), study.failed))
    return DepthClaims(tuple(claims), tuple(marks), tuple(notes))


def question() -> Question:
    return Question(
        name="depth",
        text="Does depth raise the score, where does it jump, and where does it saturate?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        required_factor="depth",
    )
