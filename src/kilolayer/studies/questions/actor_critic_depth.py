"""Does depth help in the actor, in the critic, or in both?"""

from kilolayer.analysis.answer import Answer, Plot
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import two_by_two_evidence
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    SCORE_AXIS,
    SCORE_NOTE,
    score_series,
    score_table,
    scores_by,
)
from kilolayer.studies.grid import Grid, field_factor
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import by_depth

FACTORS = ("actor", "critic")


def grids(setup: Setup) -> list[Grid]:
    actor = field_factor("actor_depth", setup.depths)
    return [setup.grid({"actor": actor, "critic": field_factor("critic_depth", setup.depths)})]


def analyse(study: Study) -> Answer:
    scores = scores_by(study, *FACTORS)
    claims, plot, table = two_by_two_evidence(
        study,
        scores,
        ("a deep actor alone", "a deep critic alone"),
        "their interaction",
        "the gain from depth in both networks",
    )
    lines = tuple(
        score_series(
            study,
            f"critic {depth}",
            {actor: row for (actor, critic), row in scores.items() if critic == depth},
        )
        for depth in sorted({critic for _, critic in scores})
    )
    return Answer(
        verdicts=assess_claims(claims),
        plots=(
            Plot(
                "Score by depth of actor and critic",
                "depth of the actor",
                SCORE_AXIS,
                lines,
                log_x=True,
            ),
            plot,
        ),
        tables=(table, score_table(study, *FACTORS)),
        notes=(SCORE_NOTE, "Verdicts compare the shallowest with the deepest network."),
    )


def question() -> Question:
    return Question(
        name="actor-critic-depth",
        text="Does depth help in the actor, in the critic, or in both?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        required_factor="critic",
    )
