"""Which depth scores best at equal environment steps, updates, seconds or operations?"""

from collections.abc import Callable

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import assess_claims, inconclusive
from kilolayer.analysis.cost_curves import (
    CostCurve,
    depth_pareto_front,
    recommend_depth,
    recommendation_claim,
    scores_at_budget,
)
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import number_text
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    SCORE_AXIS,
    TIME_AT_GOAL,
    learning_curves,
    replicated_runs_by_depth,
)
from kilolayer.analysis.threshold import WINDOW
from kilolayer.studies.cost import operations
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import by_depth
from kilolayer.types import UserError

CostOf = Callable[[Run], np.ndarray]


def counted(run: Run, name: str) -> np.ndarray:
    """A counter of the run, such as `updates`, at each of its evaluations."""
    events = [e for e in run.events if TIME_AT_GOAL in e.get("metrics", {})]
    return np.array([event[name] for event in events], float)


def seconds(run: Run) -> np.ndarray:
    """Seconds of collecting and updating up to each evaluation.

    Compilation, evaluations and checkpoints are excluded."""
    spent = [
        (event["updates"], event["seconds"].get("prefill", 0.0) + event["seconds"]["train"])
        for event in run.events
        if event["event"] == "checkpoint"
    ]
    updates, training = np.array([(0, 0.0), *spent]).T
    return np.interp(counted(run, "updates"), updates, training)


def floating_point(run: Run) -> np.ndarray:
    own = operations(run.config)
    return counted(run, "updates") * own.update + counted(run, "env_steps") * own.env_step


COSTS: dict[str, CostOf] = {
    "environment steps": lambda run: counted(run, "env_steps"),
    "updates": lambda run: counted(run, "updates"),
    "seconds": seconds,
    "floating-point operations": floating_point,
}


def cost_curve(depth: int, runs: list[StudyRun], cost: CostOf) -> CostCurve:
    """The score over the seeds' median cost, without evaluations before the first update.

    The median, because a run beside other work takes several times as many seconds.
    """
    _, scores = learning_curves(runs)
    median_cost = np.median([cost(run.run) for run in runs], axis=0)
    kept = counted(runs[0].run, "updates") > 0
    return CostCurve.from_seeds(depth, median_cost[kept], scores[:, kept])


def analyse(study: Study) -> Answer:
    groups = replicated_runs_by_depth(study, min_depths=2)
    claims, untested, plots, rows = [], [], [], []
    for name, cost in COSTS.items():
        curves = [cost_curve(depth, runs, cost) for depth, runs in groups.items()]
        budget = min(curve.cost[-1] for curve in curves)
        scores = scores_at_budget(curves, budget)
        try:
            recommendation = recommend_depth(curves, budget)
            claims.append(recommendation_claim(recommendation, name, study.failed))
        except UserError as error:
            untested.append(inconclusive(f"At equal {name}: {error}"))
        plots.append(_plot(name, curves))
        front = sorted({depth for _, depth, _ in depth_pareto_front(curves)})
        means = ", ".join(
            f"{depth}: {mean:.3g}" for depth, mean in zip(scores.depth, scores.mean, strict=True)
        )
        rows.append((name, number_text(budget), means, ", ".join(map(str, front))))
    columns = ("cost", "budget: run of the cheapest depth", "scores by depth", "Pareto front")
    return Answer(
        verdicts=(*assess_claims(claims), *untested),
        plots=tuple(plots),
        tables=(Table("Depths at equal cost", columns, tuple(rows)),),
        notes=(
            f"Scores are time at goal: trailing mean of {WINDOW} evaluations, mean over seeds.",
            "Seconds are those of collecting and updating, the median over seeds. They depend on "
            "the machine and its load.",
            "Floating-point operations are those of matrix products, two per multiplication and "
            "addition.",
        ),
    )


def _plot(name: str, curves: list[CostCurve]) -> Plot:
    series = tuple(
        Series(
            f"depth {curve.depth}",
            tuple(curve.cost.tolist()),
            tuple(curve.mean.tolist()),
            tuple((curve.mean - curve.error).tolist()),
            tuple((curve.mean + curve.error).tolist()),
        )
        for curve in curves
    )
    return Plot(f"Score against {name} (band: one standard error)", name, SCORE_AXIS, series)


def question() -> Question:
    return Question(
        name="cost",
        text="Which depth scores best at equal environment steps, updates, seconds and operations?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        required_factor="depth",
    )
