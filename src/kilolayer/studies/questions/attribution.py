"""How much of the gain belongs to the objective, the stabilising recipe and depth?"""

import numpy as np

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import judged
from kilolayer.analysis.effects import interaction_table, split_parts, two_levels
from kilolayer.analysis.factorial import interactions, shapley_values
from kilolayer.analysis.outcomes import (
    SCORE_NOTE,
    group,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.grid import Factor, Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

FACTORS = ("objective", "recipe", "depth")

# The gain is measured from the first value of each factor.
OBJECTIVES: Factor = {"sac-her": {"agent": "sac-her"}, "crl": {"agent": "crl"}}
ARCHITECTURES: Factor = {"plain-mlp": {"recipe": "plain-mlp"}, "residual": {}}


def grids(
    setup: Setup, objectives: Factor = OBJECTIVES, architectures: Factor = ARCHITECTURES
) -> list[Grid]:
    """Every combination of two objectives, two architectures and two depths."""
    factors = {"objective": objectives, "recipe": architectures, "depth": setup.depth_factor}
    return [setup.grid(factors)]


def analyse(study: Study) -> Answer:
    scores = two_levels(scores_by(study, *FACTORS))
    split = shapley_values(scores, FACTORS, np.random.default_rng(0))
    groups = group(study.finished, *FACTORS)
    claims, plot, table = split_parts(study, split, "the gain from all three")
    return Answer(
        verdicts=judged(claims),
        plots=(plot,),
        tables=(
            table,
            interaction_table(interactions(scores, FACTORS)),
            score_table("Scores", FACTORS, groups),
        ),
        notes=(
            SCORE_NOTE,
            "Shapley values: what a factor adds, averaged over all orders in which the three can "
            "be switched on; they add up to the whole gain. With three factors and few seeds "
            "their intervals are wide, and a factor that helps only beside another is shared "
            "between the two.",
        ),
    )


def question() -> Question:
    return Question(
        name="attribution",
        asks="How much of the gain belongs to the objective, the recipe and depth each?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        needs="objective",
    )
