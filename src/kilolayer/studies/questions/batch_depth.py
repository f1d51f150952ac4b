"""Do large batches help only deep networks?"""

import dataclasses

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import judged
from kilolayer.analysis.effects import split_parts, two_levels
from kilolayer.analysis.factorial import two_by_two
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
from kilolayer.studies.setups import extremes

UPDATES, SAMPLES = "updates held", "samples held"
GROWTH = 4  # ratio of the larger batch size to the smaller one


def grids(setup: Setup) -> list[Grid]:
    """The base's batch size and a quarter of it. Samples held: larger batches, fewer updates."""
    base = setup.base
    largest, updates = base.agent.batch_size, base.collection.update_to_data
    sizes = (largest // GROWTH, largest)
    ways = {
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
    ways[SAMPLES].pop(sizes[0])
    return [
        dataclasses.replace(
            setup.grid({"batch": batches, "depth": setup.depth_factor}), labels={"held": held}
        )
        for held, batches in ways.items()
    ]


def analyse(study: Study) -> Answer:
    groups = group(study.finished, "held", "batch", "depth")
    scores = scores_by(study, "held", "batch", "depth")
    smallest = min(batch for _, batch, _ in scores)
    claims, tables, series = [], [], []
    for held in (UPDATES, SAMPLES):
        # The runs of the smallest batch belong to both comparisons.
        own = {
            (batch, depth): row
            for (way, batch, depth), row in scores.items()
            if way == held or batch == smallest
        }
        split = two_by_two(
            two_levels(own),
            ("a larger batch alone", "depth alone"),
            "what a larger batch brings only to depth",
            np.random.default_rng(0),
        )
        found, _, table = split_parts(study, split, "the gain from both")
        claims += [dataclasses.replace(c, says=f"With {held}: {c.says}") for c in found]
        tables.append(dataclasses.replace(table, title=f"{table.title}, {held}"))
        for size in sorted({batch for batch, _ in own}):
            by_depth = {depth: row for (batch, depth), row in own.items() if batch == size}
            series.append(score_series(f"batch {size}, {held}", by_depth, bounds_of(study)))
    return Answer(
        verdicts=judged(claims),
        plots=(Plot("Score by depth", DEPTH_AXIS, SCORE_AXIS, tuple(series), log_x=True),),
        tables=(*tables, score_table("Scores", ("held", "batch", "depth"), groups)),
        notes=(
            SCORE_NOTE,
            "Contrastive batches do two things at once: more samples an update, and more negatives "
            "for each. With updates held the larger batch also sees more samples; with samples "
            "held it makes fewer updates.",
        ),
    )


def question() -> Question:
    return Question(
        name="batch-depth",
        asks="Do larger batches help deep networks more than shallow ones?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        needs="batch",
    )
