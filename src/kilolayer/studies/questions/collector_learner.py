"""Does depth help exploration, or learning from given data?"""

from kilolayer.agents.registry import name_of
from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.effects import two_by_two_evidence
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import SCORE_NOTE, score_table, scores_by
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
    scores = scores_by(study, *FACTORS)
    names = ("exploration", "expressivity")
    claims, plot, table = two_by_two_evidence(
        study, scores, names, "interaction", "the gain from depth"
    )
    return Answer(
        verdicts=assess_claims(claims),
        plots=(plot,),
        tables=(table, score_table(study, *FACTORS)),
        notes=(
            SCORE_NOTE,
            "The collector fills the replay buffer; collector and learner train on the same "
            "batches of it, and the learner is evaluated. Exploration: the gain from a deep "
            "collector with a shallow learner. Expressivity: the gain from a deep learner with a "
            "shallow collector. Interaction: the gain from both, minus these two gains.",
            "The learner never collects data with its own policy, so its scores may be lower than "
            "those of an agent that does.",
        ),
    )


def question() -> Question:
    return Question(
        name="collector-learner",
        text="Does depth help exploration, learning from given data, or both?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        required_factor="collector",
    )
