"""Which depth is best for a budget of steps, updates, hours or operations?"""

from collections.abc import Callable

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import judged, unsettled
from kilolayer.analysis.cost import CostCurve, at_budget, best_depths, recommended_depth
from kilolayer.analysis.depth_claims import recommendation_claim
from kilolayer.analysis.load import Run
from kilolayer.analysis.outcomes import SCORE_AXIS, TIME_AT_GOAL, curves, group
from kilolayer.analysis.study import Study, StudyRun
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
    """Seconds of acting and learning up to each evaluation.

    Compiling, evaluating and saving are left out."""
    spent = [
        (event["updates"], event["seconds"].get("prefill", 0.0) + event["seconds"]["train"])
        for event in run.events
        if event["event"] == "checkpoint"
    ]
    updates, training = np.array([(0, 0.0), *spent]).T
    return np.interp(counted(run, "updates"), updates, training)


def floating_point(run: Run) -> np.ndarray:
    each = operations(run.config)
    return each.until(counted(run, "updates"), counted(run, "env_steps"))  # type: ignore[arg-type]


COSTS: dict[str, CostOf] = {
    "environment steps": lambda run: counted(run, "env_steps"),
    "updates": lambda run: counted(run, "updates"),
    "seconds": seconds,
    "floating-point operations": floating_point,
}


def cost_curve(depth: int, runs: list[StudyRun], cost: CostOf) -> CostCurve:
    """The seeds' mean cost at each evaluation; evaluations before the first update are left out."""
    _, scores = curves(runs)
    mean_cost = np.mean([cost(run.run) for run in runs], axis=0)
    # A score before the first update cost no updates.
    kept = counted(runs[0].run, "updates") > 0
    return CostCurve.from_seeds(depth, mean_cost[kept], scores[:, kept])


def analyse(study: Study) -> Answer:
    groups = {d[0]: runs for d, runs in group(study.finished, "depth").items() if len(runs) > 1}
    if len(groups) < 2:
        raise UserError("a comparison needs two depths with two seeds each: run more of them.")
    claims, open_still, plots, rows = [], [], [], []
    for name, cost in COSTS.items():
        found = [cost_curve(depth, runs, cost) for depth, runs in groups.items()]
        budget = min(curve.cost[-1] for curve in found)
        scores = at_budget(found, budget)
        try:
            best = recommended_depth(found, budget)
            claims.append(recommendation_claim(best, name, study.failed))
        except UserError as error:
            open_still.append(unsettled(f"At equal {name}: {error}"))
        plots.append(_plot(name, found))
        front = sorted({depth for _, depth, _ in best_depths(found)})
        at = ", ".join(
            f"{depth}: {mean:.3g}" for depth, mean in zip(scores.depth, scores.mean, strict=True)
        )
        rows.append((name, f"{budget:.3g}", at, ", ".join(map(str, front))))
    columns = ("cost", "budget: the cheapest depth's whole run", "score there", "Pareto front")
    return Answer(
        verdicts=(*judged(claims), *open_still),
        plots=tuple(plots),
        tables=(Table("Depths at equal cost", columns, tuple(rows)),),
        notes=(
            f"Scores are trailing means of {WINDOW} evaluations of time at goal, means of seeds.",
            "Seconds are those of acting and learning, on the machine and as busy as it was.",
            "Operations are those of matrix products, two for each pair of factors.",
        ),
    )


def _plot(name: str, found: list[CostCurve]) -> Plot:
    series = tuple(
        Series(
            f"depth {curve.depth}",
            tuple(curve.cost.tolist()),
            tuple(curve.mean.tolist()),
            tuple((curve.mean - curve.error).tolist()),
            tuple((curve.mean + curve.error).tolist()),
        )
        for curve in found
    )
    return Plot(f"Score against {name} (band: one standard error)", name, SCORE_AXIS, series)


def question() -> Question:
    return Question(
        name="cost",
        asks="Which depth scores best at equal environment steps, updates, seconds and operations?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
