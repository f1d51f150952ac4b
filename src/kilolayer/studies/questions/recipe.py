"""What breaks when one stabiliser of the recipe is taken away?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.contrasts import Cells
from kilolayer.analysis.outcomes import (
    SCORE_NOTE,
    bars,
    group,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.verdict import NOT_ENOUGH, Verdict, strength
from kilolayer.studies.grid import Factor, Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes
from kilolayer.types import UserError

WHOLE = "whole"
REMOVED: Factor = {
    WHOLE: {},
    "no residual": {"residual": "none"},
    "no norm": {"norm": "none"},
    "relu": {"activation": "relu"},
    "unscaled branches": {"branch_scale": "none"},
    "no penalty": {"logsumexp_penalty": 0.0},
}


def grids(setup: Setup, removed: Factor = REMOVED) -> list[Grid]:
    """The whole recipe and each with one thing less, at a small and a large depth."""
    return [setup.grid({"removed": removed, "depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    scores, groups = scores_by(study, "removed", "depth"), group(study.finished, "removed", "depth")
    verdicts: list[tuple[float, Verdict]] = []
    plots: list[Plot] = []
    depths = sorted({depth for _, depth in scores})
    comparisons = sum(removed != WHOLE for removed, _ in scores)
    for depth in depths:
        if (WHOLE, depth) not in scores:
            raise UserError(f"the whole recipe has not finished at depth {depth}.")
        losses = {}
        for (removed, at), row in scores.items():
            if at != depth or removed == WHOLE:
                continue
            cells, weights = Cells.from_seeds([scores[WHOLE, depth], row]), np.array([-1.0, 1.0])
            losses[removed] = cells.estimate(weights)
            p = min(1.0, comparisons * cells.p_not_zero(weights))
            sentence = f"At depth {depth}, {removed}: {losses[removed]}, p = {p:.2g}."
            verdicts.append((p, Verdict(sentence, strength(p))))
        plots.append(bars(f"Change of the score at depth {depth}", "change of the score", losses))
    broken = [run for run in study.runs if run.state == "failed"]
    rows = tuple((run.name, (run.failure or "").splitlines()[-1]) for run in broken)
    tables = [score_table("Scores", ("removed", "depth"), groups)]
    if rows:
        tables.append(Table("Runs that failed", ("run", "last line"), rows))
    ranked = [verdict for _, verdict in sorted(verdicts, key=lambda each: each[0])]
    return Answer(
        verdicts=tuple(ranked) or (Verdict("Only the whole recipe has finished.", NOT_ENOUGH),),
        plots=(*plots,),
        tables=tuple(tables),
        notes=(SCORE_NOTE, f"p-values are corrected for {comparisons} comparisons (Bonferroni)."),
    )


def question() -> Question:
    return Question(
        name="recipe",
        asks="What breaks when one stabiliser of the recipe is taken away, shallow and deep?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        needs="removed",
    )
