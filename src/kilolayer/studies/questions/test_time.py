"""Can best-of-N action sampling at test time replace depth?"""

import json

import numpy as np

from kilolayer import api
from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.differences import paired_difference
from kilolayer.analysis.groups import mean_text
from kilolayer.analysis.statistics import mean_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    SCORE_AXIS,
    difference_claim,
    estimate_series,
    replicated_runs_by_depth,
    study_score_bounds,
)
from kilolayer.runtime.files import write_atomically
from kilolayer.studies.cost import inference_operations

SAMPLES = (1, 4, 16, 64)
EPISODES, SEED = 128, 1  # no evaluation of the run uses this seed for starts and goals
FILE = "test_time.json"


def scores(study: Study, runs: list[StudyRun]) -> np.ndarray:
    """Time at goal `[seeds, samples]`; the study directory stores every evaluated score."""
    target = study.path / FILE
    stored = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for run in runs:
        for samples in SAMPLES:
            key = f"{run.name}, {samples} samples"
            if key not in stored:
                metrics = api.evaluate(run.run, EPISODES, samples=samples, seed=SEED)
                stored[key] = next(iter(metrics.values()))["time_at_goal"]
                write_atomically(target, json.dumps(stored, indent=2) + "\n")
    return np.array([[stored[f"{run.name}, {k} samples"] for k in SAMPLES] for run in runs])


def analyse(study: Study) -> Answer:
    groups = replicated_runs_by_depth(study)
    bounds = study_score_bounds(study)
    by_samples, by_cost, rows, claims = [], [], [], []
    for depth, runs in groups.items():
        values = scores(study, runs)
        cost = [inference_operations(runs[0].run.config, samples) for samples in SAMPLES]
        estimates = [mean_interval(column, bounds) for column in values.T]
        by_samples.append(estimate_series(f"depth {depth}", SAMPLES, estimates))
        by_cost.append(estimate_series(f"depth {depth}", cost, estimates))
        rows += [
            (str(depth), str(len(runs)), str(samples), f"{each:.3g}", mean_text(column, bounds))
            for samples, each, column in zip(SAMPLES, cost, values.T, strict=True)
        ]
        # The same networks with and without samples: a paired test.
        statement = f"At depth {depth} the best of {SAMPLES[-1]} samples changes the score by"
        change = paired_difference(values[:, -1] - values[:, 0])
        claims.append(difference_claim(study, statement, change))
    columns = ("depth", "seeds", "samples", "operations for one action", "time at goal")
    return Answer(
        verdicts=assess_claims(claims),
        plots=(
            Plot(
                "Score at equal inference cost", "operations for one action", SCORE_AXIS,
                tuple(by_cost), log_x=True,
            ),
            Plot("Score by samples", "samples", SCORE_AXIS, tuple(by_samples), log_x=True),
        ),
        tables=(Table("Score by depth and samples", columns, tuple(rows)),),
        notes=(
            f"{EPISODES} new episodes per run. One sample is the deterministic action. With more "
            "samples, actions are drawn from the policy and the critic selects the best. "
            "Operations: one pass of the actor; with several samples also one goal encoding and "
            "one pass of the critic per sample.",
        ),
    )  # fmt: skip
