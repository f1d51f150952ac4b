"""Is it the actor or the critic that must be deep?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import judged
from kilolayer.analysis.effects import split_parts, two_levels
from kilolayer.analysis.factorial import two_by_two
from kilolayer.analysis.outcomes import (
    SCORE_AXIS,
    SCORE_NOTE,
    bounds_of,
    group,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.grid import Grid, field_factor
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import by_depth

FACTORS = ("actor", "critic")


def grids(setup: Setup) -> list[Grid]:
    actor = field_factor("actor_depth", setup.depths)
    return [setup.grid({"actor": actor, "critic": field_factor("critic_depth", setup.depths)})]


def analyse(study: Study) -> Answer:
    scores, groups = scores_by(study, *FACTORS), group(study.finished, *FACTORS)
    split = two_by_two(
        two_levels(scores),
        ("a deep actor alone", "a deep critic alone"),
        "what only both bring",
        np.random.default_rng(0),
    )
    claims, plot, table = split_parts(study, split, "the gain from depth in both")
    lines = tuple(
        score_series(
            f"critic {depth}",
            {actor: row for (actor, critic), row in scores.items() if critic == depth},
            bounds_of(study),
        )
        for depth in sorted({critic for _, critic in scores})
    )
    return Answer(
        verdicts=judged(claims),
        plots=(
            Plot("Score by depths", "depth of the actor", SCORE_AXIS, lines, log_x=True),
            plot,
        ),
        tables=(table, score_table("Scores", FACTORS, groups)),
        notes=(SCORE_NOTE, "Verdicts compare the shallowest with the deepest of each."),
    )


def question() -> Question:
    return Question(
        name="actor-critic-depth",
        asks="Is it the actor or the critic that must be deep?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="critic",
    )
