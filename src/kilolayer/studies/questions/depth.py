"""Does depth raise the score, at a constant width and, with narrower networks, at equal cost?"""

import dataclasses
from collections.abc import Iterable, Mapping
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
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    difference_claim,
    group_runs,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Setup

PARAMETERS, OPERATIONS = "equal parameters", "equal operations"
WIDTH_MULTIPLE = 8
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


def width_of_equal_parameters(width: int, shallow: int, depth: int) -> int:
    """The width at `depth` that keeps the parameters, which grow as depth * width^2.

    The operations of an update grow with the parameters."""
    return max(
        WIDTH_MULTIPLE, round(width * (shallow / depth) ** 0.5 / WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    )


def width_grids(setup: Setup) -> list[Grid]:
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


def analyse_width(study: Study) -> Answer:
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
