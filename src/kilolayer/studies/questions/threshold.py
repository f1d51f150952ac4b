"""After how many environment steps does a run reach 50 and 90 percent of its final score?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.outcomes import curves, group
from kilolayer.analysis.statistics import Estimate
from kilolayer.analysis.study import Study
from kilolayer.analysis.threshold import WINDOW, threshold
from kilolayer.analysis.verdict import NOT_ENOUGH, Verdict
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import grids
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
        steps, scores = curves(runs)
        for share in SHARES:
            try:
                found[share][depth] = threshold(steps, scores, share, np.random.default_rng(0))
            except UserError as error:
                unknown.append(f"depth {depth}: {error}")
                break
    return Answer(
        verdicts=tuple(_verdict(share, by_depth) for share, by_depth in found.items() if by_depth),
        plots=(_plot(found),),
        tables=(_table(found),),
        notes=(
            f"The first evaluation whose trailing mean of {WINDOW} reaches the share of the last "
            "one's, of the seeds' mean curve; seeds are bootstrapped. Early evaluations are not "
            f"told apart: nothing is reached before the {WINDOW}th.",
            *unknown,
        ),
    )


def _verdict(share: float, found: dict[int, Estimate]) -> Verdict:
    """Of two depths: moderate where their intervals lie apart, which at 95 % each is cautious."""
    percent = f"{100 * share:.0f} %"
    depths = sorted(found)
    first, last = found[depths[0]], found[depths[-1]]
    if len(depths) == 1:
        return Verdict(f"Depth {depths[0]} reaches {percent} after {first} steps.", NOT_ENOUGH)
    both = f"depth {depths[0]} after {first} steps and depth {depths[-1]} after {last}"
    if first.high < last.low or last.high < first.low:
        sooner = depths[0] if first.high < last.low else depths[-1]
        return Verdict(f"Depth {sooner} reaches {percent} sooner: {both}.", "moderate")
    return Verdict(f"Which depth reaches {percent} first stays open: {both}.", NOT_ENOUGH)


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
