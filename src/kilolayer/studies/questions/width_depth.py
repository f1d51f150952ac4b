"""At equal parameters and at equal operations: wide or deep?"""

import dataclasses

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import judged, unsettled
from kilolayer.analysis.outcomes import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    bounds_of,
    group,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions.depth import TOO_FEW, depth_claims
from kilolayer.studies.setups import by_depth

PARAMETERS, OPERATIONS = "equal parameters", "equal operations"
UNIT = 8  # every width is a multiple of this


def width_of_equal_parameters(width: int, shallow: int, depth: int) -> int:
    """The width at `depth` that keeps the parameters, which grow as depth * width^2.

    The operations of an update grow with the parameters."""
    return max(UNIT, round(width * (shallow / depth) ** 0.5 / UNIT) * UNIT)


def grids(setup: Setup) -> list[Grid]:
    """Two grids at the cost of the shallowest network: narrower, or fewer updates, with depth."""
    base, shallow = setup.base, setup.depths[0]
    width, updates = base.network.width, base.collection.update_to_data
    narrower = {
        depth: {"depth": depth, "width": width_of_equal_parameters(width, shallow, depth)}
        for depth in setup.depths
    }
    fewer = {
        depth: {"depth": depth, "update_to_data": updates * shallow / depth}
        for depth in setup.depths
    }
    return [
        dataclasses.replace(setup.grid({"depth": factor}), labels={"held": held})
        for held, factor in ((PARAMETERS, narrower), (OPERATIONS, fewer))
    ]


def analyse(study: Study) -> Answer:
    claims, series, notes = [], [], []
    for (held,), runs in group(study.finished, "held").items():
        scores = scores_by(dataclasses.replace(study, runs=tuple(runs)), "depth")
        series.append(score_series(held, scores, bounds_of(study)))
        found = depth_claims(study, scores)
        claims += [dataclasses.replace(c, says=f"At {held}: {c.says}") for c in found.claims[:1]]
        notes += found.notes
    groups = group(study.finished, "held", "depth")
    title = "Score by depth at equal cost"
    return Answer(
        verdicts=judged(claims) or (unsettled(TOO_FEW),),
        plots=(Plot(title, DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(score_table("Scores", ("held", "depth"), groups),),
        notes=(
            SCORE_NOTE,
            "Equal parameters: the width shrinks with the root of depth, in multiples of "
            f"{UNIT}, which keeps an update's operations too. Equal operations: the width stays "
            "and the number of updates shrinks with depth.",
            *dict.fromkeys(notes),
        ),
    )


def question() -> Question:
    return Question(
        name="width-depth",
        asks="At equal parameters and at equal operations, is it better to be wide or deep?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="held",
    )
