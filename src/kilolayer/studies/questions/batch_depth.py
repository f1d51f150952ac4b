"""Do large batches help only deep networks?"""

import dataclasses

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import code_two_levels, decomposition_evidence
from kilolayer.analysis.factorial import decompose_two_by_two
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_AXIS,
    SCORE_NOTE,
    group_runs,
    score_series,
    score_table,
    scores_by,
    study_score_bounds,
)
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

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
        SAMPLES: {
            size: {
                "batch_size": size,
                "update_to_data": updates * sizes[0] / size,
            }
            for size in sizes
        },
    }
    # The smallest batch gives the same run in both grids, so it is trained once.
    batches[SAMPLES].pop(sizes[0])
    return [
        dataclasses.replace(
            setup.grid({"batch": factor, "depth": setup.depth_factor}), labels={"held": held}
        )
        for held, factor in batches.items()
    ]


def analyse(study: Study) -> Answer:
    groups = group_runs(study.finished, "held", "batch", "depth")
    scores = scores_by(study, "held", "batch", "depth")
    smallest = min(batch for _, batch, _ in scores)
    claims, tables, series = [], [], []
    for held in (UPDATES, SAMPLES):
        # The runs of the smallest batch belong to both comparisons.
        own = {
            (batch, depth): row
            for (kept, batch, depth), row in scores.items()
            if kept == held or batch == smallest
        }
        decomposition = decompose_two_by_two(
            code_two_levels(own),
            ("a larger batch alone", "depth alone"),
            "their interaction",
            np.random.default_rng(0),
        )
        own_claims, _, table = decomposition_evidence(study, decomposition, "the gain from both")
        claims += [
            dataclasses.replace(c, statement=f"With {held}: {c.statement}") for c in own_claims
        ]
        tables.append(dataclasses.replace(table, title=f"{table.title}, {held}"))
        for size in sorted({batch for batch, _ in own}):
            by_depth = {depth: row for (batch, depth), row in own.items() if batch == size}
            series.append(
                score_series(f"batch {size}, {held}", by_depth, study_score_bounds(study))
            )
    return Answer(
        verdicts=assess_claims(claims),
        plots=(Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(*tables, score_table("Scores", ("held", "batch", "depth"), groups)),
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
