"""Collector and learner on the arm that pushes: does depth help to explore, or to learn from data?

Run from the root of the repository:
kilolayer study results.depth_body.collector:question --size body --out STUDY

The question of the package, `kilolayer study collector-learner`, with four fifths of the steps of
the depth study. What was planned: plan-collector.md.
"""

import dataclasses

from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions import collector_learner
from kilolayer.studies.setups import BODY

SETUP = Setup(BODY.having(total_steps=800_000), depths=(4, 16), seeds=5)


def question() -> Question:
    return dataclasses.replace(
        collector_learner.question(), name="collector-learner-arm", setups={"body": SETUP}
    )
