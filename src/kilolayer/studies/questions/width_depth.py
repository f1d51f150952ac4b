"""Are deep or wide networks better, at equal parameters and at equal operations?"""

import dataclasses
from collections.abc import Iterable

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import assess_claims, inconclusive
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    group_runs,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Setup
from kilolayer.studies.questions.depth import TOO_FEW, depth_claims

PARAMETERS, OPERATIONS = "equal parameters", "equal operations"
WIDTH_MULTIPLE = 8


def width_of_equal_parameters(width: int, shallow: int, depth: int) -> int:
    """The width at `depth` that keeps the parameters, which grow as depth * width^2.

    The operations of an update grow with the parameters."""
    return max(
        WIDTH_MULTIPLE, round(width * (shallow / depth) ** 0.5 / WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    )


def grids(setup: Setup) -> list[Grid]:
    """Two grids at the cost of the shallowest network: smaller width, or fewer updates, with
    depth."""
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
        setup.grid({"depth": narrower}, {"held": PARAMETERS}),
        setup.grid({"depth": fewer}, {"held": OPERATIONS}),
    ]


def parameters_note(runs: Iterable[StudyRun]) -> str:
    """How far the parameters are from equal, since widths are rounded."""
    networks = {run.factors["depth"]: run.planned_config.network for run in runs}
    products = {depth: network.depth * network.width**2 for depth, network in networks.items()}
    shallow = min(products)
    ratios = (f"{depth}: {products[depth] / products[shallow]:.2g}" for depth in sorted(products))
    return (
        f"Depth times squared width, divided by that of depth {shallow}, differs from 1 by "
        f"rounding: {', '.join(ratios)}."
    )


def analyse(study: Study) -> Answer:
    claims, series, notes = [], [], []
    for (held,), runs in group_runs(study.finished, "held").items():
        if held == PARAMETERS:
            notes.append(parameters_note(runs))
        scores = scores_by(dataclasses.replace(study, runs=tuple(runs)), "depth")
        series.append(score_series(study, held, scores))
        evidence = depth_claims(study, scores)
        claims += [claim.with_prefix(f"At {held}") for claim in evidence.claims[:1]]
        notes += evidence.notes
    title = "Score by depth at equal cost"
    return Answer(
        verdicts=assess_claims(claims) or (inconclusive(TOO_FEW),),
        plots=(Plot(title, DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(score_table(study, "held", "depth"),),
        notes=(
            SCORE_NOTE,
            "Equal parameters: the width is proportional to 1 / sqrt(depth), in multiples of "
            f"{WIDTH_MULTIPLE}; the operations per update are then equal too. Equal operations: "
            "the width is constant and the number of updates is proportional to 1 / depth.",
            *dict.fromkeys(notes),
        ),
    )
