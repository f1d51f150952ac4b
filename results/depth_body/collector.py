"""Collector and learner on the arm that pushes: does depth help to explore, or to learn from data?

Run from the root of the repository:
kilolayer study results.depth_body.collector:question --size body --out STUDY

The question of the package, `kilolayer study collector-learner`, with four fifths of the steps of
the depth study. What was planned: plan-collector.md.

python -m results.depth_body.collector prints the scores of the runs, from the file
evaluations-collector.jsonl, and those of the depth study over the steps of the same evaluations.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from results.depth_body.gpu import read
from results.evaluations import final_scores

from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.statistics import mean_interval
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions import QUESTIONS
from kilolayer.studies.setups import BODY

BEFORE, LAST = 640_000, 800_000  # environment steps; the evaluations between score a run
SETUP = Setup(BODY.having(total_steps=800_000), depths=(4, 16), seeds=5)


def question() -> Question:
    found = QUESTIONS["collector-learner"]()
    return dataclasses.replace(found, name="collector-learner-arm", setups={"body": SETUP})


def main() -> None:
    scores = final_scores(Path(__file__).with_name("evaluations-collector.jsonl"))
    first, *others = sorted(scores, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    for name in (first, *others):
        print(f"{name}: {mean_interval(scores[name])}")
    for name in others:
        print(f"{name} - {first}: {mean_difference(scores[name], scores[first]).estimate}")
    for name, seeds in read("evaluations.jsonl").items():
        means = [np.mean([s for at, s in each if BEFORE < at <= LAST]) for each in seeds.values()]
        print(f"{name}, which acts and learns: {mean_interval(np.array(means))}")


if __name__ == "__main__":
    main()
