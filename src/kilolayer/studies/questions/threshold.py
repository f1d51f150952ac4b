"""After how many environment steps does a run reach 50 and 90 percent of its final score?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.claims import Claim, assess_claims, inconclusive
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    estimate_series,
    learning_curves,
    replicated_runs_by_depth,
)
from kilolayer.analysis.threshold import WINDOW, estimate_steps_to_share, steps_to_share_delay
from kilolayer.studies.questions.depth import TOO_FEW
from kilolayer.types import UserError

SHARES = (0.5, 0.9)


def analyse(study: Study) -> Answer:
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
        _claim(study, groups, share, list(by_depth))
        for share, by_depth in estimates.items()
        if len(by_depth) > 1
    ]
    return Answer(
        verdicts=assess_claims(claims) or (inconclusive(TOO_FEW),),
        plots=(_plot(estimates),),
        tables=(_table(estimates),),
        notes=(
            f"Steps to a share: the first evaluation at which the trailing mean of {WINDOW} "
            "evaluations of the mean curve over seeds reaches this share of its last value. "
            "Intervals are a bootstrap over seeds. No share is reached before evaluation "
            f"{WINDOW}. The test permutes the seeds' curves between two depths.",
            *undefined,
        ),
    )


def _claim(study: Study, groups: dict, share: float, depths: list[int]) -> Claim:
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


def _plot(estimates: dict[float, dict[int, Estimate]]) -> Plot:
    series = tuple(
        estimate_series(f"to {100 * share:.0f} %", by_depth, list(by_depth.values()))
        for share, by_depth in estimates.items()
        if by_depth
    )
    return Plot(
        "Steps to a share of the final score", "depth", "environment steps", series, log_x=True
    )


def _table(estimates: dict[float, dict[int, Estimate]]) -> Table:
    depths = sorted(set().union(*estimates.values()))
    rows = tuple(
        (str(depth), *(str(estimates[share].get(depth, "not reached")) for share in SHARES))
        for depth in depths
    )
    columns = ("depth", *(f"steps to {100 * share:.0f} %" for share in SHARES))
    return Table("Steps to a share of the final score", columns, rows)
