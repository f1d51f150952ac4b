"""Do large batches help only deep networks?"""

import dataclasses

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import two_by_two_evidence
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

FACTORS = ("held", "batch", "depth")
# Values of the factor `held`: what stays equal when the batch grows.
UPDATES, SAMPLES = "updates held", "samples held"
GROWTH = 4  # ratio of the larger batch size to the smaller one


def grids(setup: Setup) -> list[Grid]:
    """The base's batch size and a quarter of it. Equal samples: larger batches, fewer updates."""
    base = setup.base
    largest, updates = base.agent.batch_size, base.collection.update_to_data
    sizes = (largest // GROWTH, largest)
    batches = {
        UPDATES: {size: {"batch_size": size} for size in sizes},
        # The smallest batch gives the same run in both grids, so it is trained once.
        SAMPLES: {largest: {"batch_size": largest, "update_to_data": updates * sizes[0] / largest}},
    }
    return [
        setup.grid({"batch": factor, "depth": setup.depth_factor}, {"held": held})
        for held, factor in batches.items()
    ]


def analyse(study: Study) -> Answer:
    scores = scores_by(study, *FACTORS)
    smallest = min(batch for _, batch, _ in scores)
    claims, tables, series = [], [], []
    for held in (UPDATES, SAMPLES):
        # The runs of the smallest batch belong to both comparisons.
        own = {
            (batch, depth): row
            for (kept, batch, depth), row in scores.items()
            if kept == held or batch == smallest
        }
        names = ("a larger batch alone", "depth alone")
        own_claims, _, table = two_by_two_evidence(
            study, own, names, "their interaction", "the gain from both"
        )
        claims += [claim.with_prefix(f"With {held}") for claim in own_claims]
        tables.append(dataclasses.replace(table, title=f"{table.title}, {held}"))
        for size in sorted({batch for batch, _ in own}):
            by_depth = {depth: row for (batch, depth), row in own.items() if batch == size}
            series.append(score_series(study, f"batch {size}, {held}", by_depth))
    return Answer(
        verdicts=assess_claims(claims),
        plots=(Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(*tables, score_table(study, *FACTORS)),
        notes=(
            SCORE_NOTE,
            "A larger contrastive batch has more samples per update and more negatives per sample. "
            "With updates held, the larger batch also sees more samples in total; with samples "
            "held, it makes fewer updates.",
        ),
    )


def question() -> Question:
    return Question(
        name="batch-depth",
        text="Do larger batches help deep networks more than shallow ones?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        required_factor="batch",
    )
