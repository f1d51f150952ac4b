"""Does depth raise the score, where does the score jump, and where does it saturate?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import Claim, judged, unsettled
from kilolayer.analysis.depth import critical_depth, monotonicity, saturation_depth
from kilolayer.analysis.depth_claims import critical_claim, monotonicity_claim, saturation_claim
from kilolayer.analysis.depth_scores import DepthScores
from kilolayer.analysis.differences import difference
from kilolayer.analysis.outcomes import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    bounds_of,
    change_claim,
    group,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import by_depth

TOO_FEW = "Two depths with two seeds each are the least that can be compared."
CRITICAL_NOTE = (
    "A depth is critical if one step brings more than half of what depth brings and no deeper "
    "network loses it again: an intersection of Welch tests, doubled for the choice of the step."
)


def grids(setup: Setup) -> list[Grid]:
    return [setup.grid({"depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    scores, groups = scores_by(study, "depth"), group(study.finished, "depth")
    found = depth_claims(study, scores)
    series = (score_series("final score", scores, bounds_of(study)),)
    return Answer(
        verdicts=judged(found.claims) or (unsettled(TOO_FEW),),
        plots=(
            Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, series, log_x=True, marks=found.marks),
        ),
        tables=(score_table("Scores", ("depth",), groups),),
        notes=(SCORE_NOTE, *found.notes),
    )


@dataclass(frozen=True)
class DepthClaims:
    """marks: of the plot. notes: on the methods, and on depths that were left out."""

    claims: tuple[Claim, ...]
    marks: tuple[tuple[float, str], ...]
    notes: tuple[str, ...]


def depth_claims(study: Study, scores: Mapping[int, np.ndarray]) -> DepthClaims:
    """Claims about depth from scores `{depth: [seeds]}`, first the deepest against the shallowest.

    Depths with one seed are left out, and a note lists them. If fewer than two depths are left,
    there are no claims.
    """
    ample = {depth: row for depth, row in scores.items() if len(row) > 1}
    single = [depth for depth in scores if depth not in ample]
    notes = [f"Depths with one seed, left out of the tests: {single}."] if single else []
    if len(ample) < 2:
        return DepthClaims((), (), tuple(notes))
    shallow, deep = min(ample), max(ample)
    change = difference(ample[deep], ample[shallow])
    says = f"From depth {shallow} to {deep} the score changes by"
    claims, marks = [change_claim(study, says, change)], []
    by_depth = DepthScores.from_seeds(ample)
    if len(ample) > 2:
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
        asks="Does depth raise the score, where does it jump, and where does it saturate?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
