"""After how many environment steps does a run reach 50 and 90 percent of its final score?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, judged, unsettled
from kilolayer.analysis.outcomes import curves, group
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.study import Study
from kilolayer.analysis.threshold import WINDOW, later, threshold
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import TOO_FEW, grids
from kilolayer.studies.setups import by_depth
from kilolayer.types import UserError

SHARES = (0.5, 0.9)


def analyse(study: Study) -> Answer:
    groups = {d[0]: runs for d, runs in group(study.finished, "depth").items() if len(runs) > 1}
    if not groups:
        raise UserError("an interval needs two seeds at one depth at least: run more seeds.")
    found: dict[float, dict[int, Estimate]] = {share: {} for share in SHARES}
    unknown = []
    for depth, runs in groups.items():
        for share in SHARES:
            try:
                found[share][depth] = threshold(*curves(runs), share, np.random.default_rng(0))
            except UserError as error:
                unknown.append(f"depth {depth}: {error}")
                break
    claims = [_claim(study, groups, share, list(each)) for share, each in found.items() if each]
    return Answer(
        verdicts=judged([claim for claim in claims if claim]) or (unsettled(TOO_FEW),),
        plots=(_plot(found),),
        tables=(_table(found),),
        notes=(
            f"The first evaluation whose trailing mean of {WINDOW} reaches the share of the last "
            "one's, of the seeds' mean curve; seeds are bootstrapped. Early evaluations are not "
            f"told apart: nothing is reached before the {WINDOW}th. Tests divide the seeds' curves "
            "anew.",
            *unknown,
        ),
    )


def _claim(study: Study, groups: dict, share: float, depths: list[int]) -> Claim | None:
    """Whether the deepest reaches the share later than the shallowest; None for one depth."""
    if len(depths) < 2:
        return None
    (steps, first), (_, last) = (curves(groups[depth]) for depth in (depths[0], depths[-1]))
    change = later(steps, last, first, share, np.random.default_rng(0))
    says = (
        f"Depth {depths[-1]} reaches {100 * share:.0f} % of its score later than depth {depths[0]} "
        "by environment steps:"
    )
    return Claim(says, change.value, change.p, study.failed, None)


def _plot(found: dict[float, dict[int, Estimate]]) -> Plot:
    series = tuple(
        Series(
            f"to {100 * share:.0f} %",
            tuple(map(float, estimates)),
            tuple(each.value for each in estimates.values()),
            tuple(each.low for each in estimates.values()),
            tuple(each.high for each in estimates.values()),
        )
        for share, estimates in found.items()
        if estimates
    )
    return Plot(
        "Steps to a share of the final score", "depth", "environment steps", series, log_x=True
    )


def _table(found: dict[float, dict[int, Estimate]]) -> Table:
    depths = sorted(set().union(*found.values()))
    rows = tuple(
        (str(depth), *(str(found[share].get(depth, "not reached")) for share in SHARES))
        for depth in depths
    )
    columns = ("depth", *(f"steps to {100 * share:.0f} %" for share in SHARES))
    return Table("Steps to a share of the final score", columns, rows)


def question() -> Question:
    return Question(
        name="threshold",
        asks="After how many environment steps does each depth reach 50 and 90 % of its score?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
