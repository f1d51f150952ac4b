"""How much do the objective, the stabilising recipe and depth each contribute to the gain?"""

import numpy as np

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import (
    code_two_levels,
    decomposition_evidence,
    interaction_table,
    shapley_decomposition,
    two_way_interactions,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import SCORE_NOTE, score_table, scores_by
from kilolayer.studies.grid import Factor, Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

FACTORS = ("objective", "recipe", "depth")

# The gain is measured from the first value of each factor.
OBJECTIVES: Factor = {"sac-her": {"agent": "sac-her"}, "crl": {"agent": "crl"}}
ARCHITECTURES: Factor = {"plain-mlp": {"recipe": "plain-mlp"}, "residual": {}}


def grids(setup: Setup) -> list[Grid]:
    """Every combination of two objectives, two architectures and two depths."""
    factors = {"objective": OBJECTIVES, "recipe": ARCHITECTURES, "depth": setup.depth_factor}
    return [setup.grid(factors)]


def analyse(study: Study) -> Answer:
    scores = code_two_levels(scores_by(study, *FACTORS))
    decomposition = shapley_decomposition(scores, FACTORS, np.random.default_rng(0))
    claims, plot, table = decomposition_evidence(study, decomposition, "the gain from all three")
    return Answer(
        verdicts=assess_claims(claims),
        plots=(plot,),
        tables=(
            table,
            interaction_table(two_way_interactions(scores, FACTORS)),
            score_table(study, *FACTORS),
        ),
        notes=(
            SCORE_NOTE,
            "Shapley values: the gain from a factor, averaged over all orders in which the three "
            "factors can be switched on. They add up to the total gain. With three factors and few "
            "seeds their intervals are wide. The gain of an interaction is divided equally between "
            "its factors.",
        ),
    )


def question() -> Question:
    return Question(
        name="attribution",
        text="How much do the objective, the recipe and depth each contribute to the gain?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        required_factor="objective",
    )
