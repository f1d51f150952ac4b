"""The controls of the study of depth: width, and depth in the actor or the critic alone.

Run from the root of the repository:
kilolayer study results.depth_body.controls:question --size body --out STUDY

Trains the four networks below. Each is compared with the runs of the depth study, whose scores are
read from evaluations.jsonl beside this file. What was planned: plan-controls.md.
"""

from pathlib import Path

import numpy as np
from results.evaluations import final_scores

from kilolayer.analysis.answer import Answer
from kilolayer.analysis.claims import assess_claims, inconclusive
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import SCORE_NOTE, difference_claim, score_table, scores_by
from kilolayer.studies.grid import Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import BODY

SHALLOW, DEEP = 4, 16
NETWORKS = {
    # 1.02 times the parameters of depth 16 and width 128.
    "equal_parameters": {"depth": SHALLOW, "width": 256},
    # 1.0 times the time of its update on one core, interpolated between widths 288 and 320 of
    # width_times.py.
    "equal_time": {"depth": SHALLOW, "width": 312},
    "deep_critic": {"depth": SHALLOW, "critic_depth": DEEP},
    "deep_actor": {"depth": SHALLOW, "actor_depth": DEEP},
}
SEEDS = {"equal_parameters": 5, "deep_critic": 3, "deep_actor": 3, "equal_time": 5}
# Each network, the depth that it is compared with, and the claim.
COMPARISONS = (
    ("equal_parameters", DEEP, "A network of depth 4 with the parameters of depth 16 differs by"),
    ("equal_time", DEEP, "A network of depth 4 with the time per update of depth 16 differs by"),
    ("equal_parameters", SHALLOW, "Twice the width at depth 4 changes the score by"),
    (
        "deep_critic",
        SHALLOW,
        "A critic of depth 16 beside an actor of depth 4 changes the score by",
    ),
    ("deep_actor", SHALLOW, "An actor of depth 16 beside a critic of depth 4 changes the score by"),
)


def grids(setup: Setup) -> list[Grid]:
    return [
        Grid(setup.base, {"network": {name: NETWORKS[name]}}, min(seeds, setup.seeds))
        for name, seeds in SEEDS.items()
    ]


def depth_scores() -> dict[int, np.ndarray]:
    """Time at goal `[seeds]` of the depth study's runs, by depth."""
    scores = final_scores(Path(__file__).with_name("evaluations.jsonl"))
    return {int(name.removeprefix("depth")): values for name, values in scores.items()}


def analyse(study: Study) -> Answer:
    scores, reference = scores_by(study, "network"), depth_scores()
    claims = [
        difference_claim(study, statement, mean_difference(scores[network], reference[depth]))
        for network, depth, statement in COMPARISONS
        if len(scores.get(network, ())) > 1
    ]
    return Answer(
        verdicts=assess_claims(claims) or (inconclusive("No network has two finished runs."),),
        tables=(score_table(study, "network"),),
        notes=(SCORE_NOTE, "Compared with the five runs of each depth in evaluations.jsonl."),
    )


def question() -> Question:
    return Question(
        name="controls",
        text="Does width do what depth does, and does depth help the actor or the critic alone?",
        setups={"body": Setup(BODY, (SHALLOW, DEEP), max(SEEDS.values()))},
        grids=grids,
        analyse=analyse,
        required_factor="network",
    )
