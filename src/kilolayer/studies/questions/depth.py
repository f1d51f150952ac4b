"""Does depth raise the score, where does it jump, and from where on is more depth for nothing?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.depth import critical_depth, monotonicity, saturation_depth
from kilolayer.analysis.depth_scores import DepthScores
from kilolayer.analysis.outcomes import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    group,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.verdict import (
    NOT_ENOUGH,
    Verdict,
    critical_verdict,
    monotonicity_verdict,
    saturation_verdict,
    strength,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import by_depth


def grids(setup: Setup) -> list[Grid]:
    return [setup.grid({"depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    scores, groups = scores_by(study, "depth"), group(study.finished, "depth")
    verdicts, marks, notes = verdicts_of(scores)
    series = (score_series("final score", scores),)
    return Answer(
        verdicts=verdicts,
        plots=(Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, series, log_x=True, marks=marks),),
        tables=(score_table("Scores", ("depth",), groups),),
        notes=(SCORE_NOTE, *notes),
    )


def verdicts_of(
    scores: dict[int, np.ndarray],
) -> tuple[tuple[Verdict, ...], tuple[tuple[float, str], ...], tuple[str, ...]]:
    """Verdicts, marks of the plot and notes; depths with one seed are left out and named."""
    ample = {depth: row for depth, row in scores.items() if len(row) > 1}
    single = [depth for depth in scores if depth not in ample]
    notes = (f"Depths with one seed, left out of the tests: {single}.",) if single else ()
    if len(ample) < 2:
        sentence = f"Two depths with two seeds each are the least; there are {len(ample)}."
        return (Verdict(sentence, NOT_ENOUGH),), (), notes
    by_depth = DepthScores.from_seeds(ample)
    found: list[Verdict] = [whole_verdict(by_depth)]
    marks: list[tuple[float, str]] = []
    if len(ample) > 2:
        critical = critical_depth(by_depth)
        found.append(critical_verdict(critical))
        if strength(critical.p_jump) != NOT_ENOUGH:
            marks.append((float(critical.depth), f"critical depth {critical.depth}"))
        notes = (
            *notes,
            "A depth is critical if one step brings more than half of what depth brings: an "
            "intersection of Welch tests, which no smooth trend up to a straight line passes more "
            "often than its p-value says.",
        )
    if by_depth.mean.max() > 0:
        found.append(saturation_verdict(saturation_depth(by_depth)))
    found.append(monotonicity_verdict(monotonicity(by_depth)))
    return tuple(found), tuple(marks), notes


def whole_verdict(scores: DepthScores) -> Verdict:
    """The deepest against the shallowest."""
    weights = np.zeros(len(scores.depth))
    weights[[0, -1]] = -1, 1
    change = scores.estimate(weights)
    p = min(1.0, 2 * float(scores.p_above_zero(np.stack([weights, -weights])).min()))
    return Verdict(
        f"From depth {scores.depth[0]} to {scores.depth[-1]} the score changes by {change}, "
        f"p = {p:.2g}.",
        strength(p),
    )


def question() -> Question:
    return Question(
        name="depth",
        asks="Does depth raise the score, where does it jump, and where does it saturate?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
