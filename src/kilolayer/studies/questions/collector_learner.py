"""Does depth help because it collects other data, or because it learns more from the same data?"""

import numpy as np

from kilolayer.agents.registry import name_of
from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import judged
from kilolayer.analysis.effects import split_parts, two_levels
from kilolayer.analysis.factorial import two_by_two
from kilolayer.analysis.outcomes import (
    SCORE_NOTE,
    group,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.collector_learner import CollectorLearner
from kilolayer.studies.grid import Grid, field_factor
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

FACTORS = ("collector", "learner")


def grids(setup: Setup) -> list[Grid]:
    collector = field_factor("collector_depth", setup.depths)
    factors = {"collector": collector, "learner": setup.depth_factor}
    return [setup.grid(factors, agent=name_of(CollectorLearner))]


def analyse(study: Study) -> Answer:
    scores = two_levels(scores_by(study, *FACTORS))
    split = two_by_two(
        scores, ("exploration", "expressivity"), "interaction", np.random.default_rng(0)
    )
    groups = group(study.finished, *FACTORS)
    claims, plot, table = split_parts(study, split, "the gain from depth")
    return Answer(
        verdicts=judged(claims),
        plots=(plot,),
        tables=(table, score_table("Scores", FACTORS, groups)),
        notes=(
            SCORE_NOTE,
            "Collector and learner train on the same batches of one buffer that the collector "
            "fills; the learner is evaluated. Exploration: a deep collector before a shallow "
            "learner, less shallow before shallow. Expressivity: a deep learner behind a shallow "
            "collector, less the same. Interaction: what both bring beyond that.",
            "A learner behind a collector never tests what it believes, so its scores may lie "
            "below those of an agent that collects for itself.",
        ),
    )


def question() -> Question:
    return Question(
        name="collector-learner",
        asks="Does depth help by what it explores, by what it learns from the data, or by both?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        needs="collector",
    )
