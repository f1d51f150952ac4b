"""Learning curves by depth: the score at equal cost, the steps to a share of the last score."""

from collections.abc import Callable

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, assess_claims, inconclusive
from kilolayer.analysis.cost_curves import (
    CostCurve,
    depth_pareto_front,
    recommend_depth,
    recommendation_claim,
    scores_at_budget,
)
from kilolayer.analysis.load import Run
from kilolayer.analysis.statistics import Estimate, number_text
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    SCORE_AXIS,
    TIME_AT_GOAL,
    estimate_series,
    learning_curves,
    replicated_runs_by_depth,
)
from kilolayer.analysis.threshold import WINDOW, estimate_steps_to_share, steps_to_share_delay
from kilolayer.errors import UserError
from kilolayer.studies.cost import operations
from kilolayer.studies.questions.depth import TOO_FEW

SHARES = (0.5, 0.9)  # of the final score

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


def analyse_cost(study: Study) -> Answer:
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
        plots.append(_cost_plot(name, curves))
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


def _cost_plot(name: str, curves: list[CostCurve]) -> Plot:
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


def analyse_threshold(study: Study) -> Answer:
    groups = replicated_runs_by_depth(study)
    estimates: dict[float, dict[int, Estimate]] = {share: {} for share in SHARES}
    undefined = []
    for depth, runs in groups.items():
        for share in SHARES:
            try:
                estimates[share][depth] = estimate_steps_to_share(
                    *learning_curves(runs), share, np.random.default_rng(0)
                )
            except UserError as error:
                undefined.append(f"depth {depth}: {error}")
                break
    claims = [
        _delay_claim(study, groups, share, list(by_depth))
        for share, by_depth in estimates.items()
        if len(by_depth) > 1
    ]
    return Answer(
        verdicts=assess_claims(claims) or (inconclusive(TOO_FEW),),
        plots=(_steps_plot(estimates),),
        tables=(_steps_table(estimates),),
        notes=(
            f"Steps to a share: the first evaluation at which the trailing mean of {WINDOW} "
            "evaluations of the mean curve over seeds reaches this share of its last value. "
            "Intervals are a bootstrap over seeds. No share is reached before evaluation "
            f"{WINDOW}. The test permutes the seeds' curves between two depths.",
            *undefined,
        ),
    )


def _delay_claim(study: Study, groups: dict, share: float, depths: list[int]) -> Claim:
    """Whether the deepest network reaches the share later than the shallowest."""
    (steps, first), (_, last) = (
        learning_curves(groups[depth]) for depth in (depths[0], depths[-1])
    )
    delay = steps_to_share_delay(steps, last, first, share, np.random.default_rng(0))
    statement = (
        f"From depth {depths[0]} to {depths[-1]} the environment steps to {100 * share:.0f} % of "
        "the own score change by"
    )
    return Claim(statement, delay.estimate, delay.p, study.failed, None)


def _steps_plot(estimates: dict[float, dict[int, Estimate]]) -> Plot:
    series = tuple(
        estimate_series(f"to {100 * share:.0f} %", by_depth, list(by_depth.values()))
        for share, by_depth in estimates.items()
        if by_depth
    )
    return Plot(
        "Steps to a share of the final score", "depth", "environment steps", series, log_x=True
    )


def _steps_table(estimates: dict[float, dict[int, Estimate]]) -> Table:
    depths = sorted(set().union(*estimates.values()))
    rows = tuple(
        (str(depth), *(str(estimates[share].get(depth, "not reached")) for share in SHARES))
        for depth in depths
    )
    columns = ("depth", *(f"steps to {100 * share:.0f} %" for share in SHARES))
    return Table("Steps to a share of the final score", columns, rows)
