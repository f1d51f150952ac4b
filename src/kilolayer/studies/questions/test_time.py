"""Does choosing among more action samples replace depth?"""

import json

import numpy as np

from kilolayer import api
from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import judged
from kilolayer.analysis.differences import gain
from kilolayer.analysis.groups import with_interval
from kilolayer.analysis.outcomes import SCORE_AXIS, bounds_of, change_claim, group
from kilolayer.analysis.statistics import mean_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.runtime.files import write_atomically
from kilolayer.studies.cost import inference_operations
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import by_depth
from kilolayer.types import UserError

SAMPLES = (1, 4, 16, 64)
EPISODES, SEED = 128, 1  # this seed gives starts and goals that no evaluation of the run used
FILE = "test_time.json"


def scores(study: Study, runs: list[StudyRun]) -> np.ndarray:
    """Time at goal `[seeds, samples]`; the study directory keeps every score once evaluated."""
    target = study.path / FILE
    kept = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for run in runs:
        for samples in SAMPLES:
            key = f"{run.name}, {samples} samples"
            if key not in kept:
                found = api.evaluate(run.run, EPISODES, samples=samples, seed=SEED)
                kept[key] = next(iter(found.values()))["time_at_goal"]
                write_atomically(target, json.dumps(kept, indent=2) + "\n")
    return np.array([[kept[f"{run.name}, {k} samples"] for k in SAMPLES] for run in runs])


def analyse(study: Study) -> Answer:
    groups = {d[0]: runs for d, runs in group(study.finished, "depth").items() if len(runs) > 1}
    if not groups:
        raise UserError("an interval needs two seeds at one depth at least: run more seeds.")
    bounds = bounds_of(study)
    by_samples, by_cost, rows, claims = [], [], [], []
    for depth, runs in groups.items():
        found = scores(study, runs)
        cost = [inference_operations(runs[0].run.config, samples) for samples in SAMPLES]
        estimates = [mean_interval(column, bounds) for column in found.T]
        ends = (
            tuple(each.value for each in estimates),
            tuple(each.low for each in estimates),
            tuple(each.high for each in estimates),
        )
        by_samples.append(Series(f"depth {depth}", tuple(map(float, SAMPLES)), *ends))
        by_cost.append(Series(f"depth {depth}", tuple(map(float, cost)), *ends))
        rows += [
            (str(depth), str(len(runs)), str(samples), f"{each:.3g}", with_interval(column, bounds))
            for samples, each, column in zip(SAMPLES, cost, found.T, strict=True)
        ]
        # The same networks with and without samples: a test of differences, not of two groups.
        says = f"At depth {depth} the best of {SAMPLES[-1]} samples changes the score by"
        claims.append(change_claim(study, says, gain(found[:, -1] - found[:, 0])))
    columns = ("depth", "seeds", "samples", "operations for one action", "time at goal")
    return Answer(
        verdicts=judged(claims),
        plots=(
            Plot(
                "Score at equal inference cost", "operations for one action", SCORE_AXIS,
                tuple(by_cost), log_x=True,
            ),
            Plot("Score by samples", "samples", SCORE_AXIS, tuple(by_samples), log_x=True),
        ),
        tables=(Table("Score by depth and samples", columns, tuple(rows)),),
        notes=(
            f"{EPISODES} new episodes each. One sample is the deterministic action; more are drawn "
            "from the policy and the critic takes the best. Operations: the actor once, and the "
            "critic once for each sample, its goal encoding once, where there is a choice.",
        ),
    )  # fmt: skip


def question() -> Question:
    return Question(
        name="test-time",
        asks="Does choosing among more action samples at test time replace depth?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
