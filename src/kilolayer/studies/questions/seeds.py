"""How many seeds does a claim about depth need?"""

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Verdict, untested_estimate
from kilolayer.analysis.power import (
    LEVEL,
    MOST_SEEDS,
    POWER,
    SeedsNeeded,
    power_of_difference,
    seeds_needed,
)
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import SCORE_NOTE, scores_by
from kilolayer.errors import UserError

SHARES = (1.0, 0.5, 0.25)
COUNTS = (2, 3, 5, 10, 20, 50, 100)


def analyse(study: Study) -> Answer:
    scores = {depth: row for depth, row in scores_by(study, "depth").items() if len(row) > 1}
    if len(scores) < 2:
        raise UserError(
            "a power analysis needs two depths with two seeds each: run more seeds or depths."
        )
    shallow, deep = min(scores), max(scores)
    pair = f"depth {shallow} and {deep}"
    needs = {share: seeds_needed(scores[deep], scores[shallow], share) for share in SHARES}
    existing = min(len(scores[shallow]), len(scores[deep]))
    verdicts = tuple(_verdict(pair, share, each, existing) for share, each in needs.items())
    rows = tuple(
        (
            f"{100 * share:.0f} % of the observed difference",
            f"{each.effect:.3g}",
            f"{abs(each.effect_size):.2f}",
            _count(each),
            f"{each.power:.2f}",
        )
        for share, each in needs.items()
    )
    power = f"power with {existing} seeds"
    columns = ("difference", "in score units", "Cohen's d", "seeds per depth", power)
    series = tuple(
        Series(
            f"{100 * share:.0f} % of the observed difference",
            tuple(map(float, COUNTS)),
            tuple(power_of_difference(each.effect_size, count) for count in COUNTS),
        )
        for share, each in needs.items()
    )
    return Answer(
        verdicts=verdicts,
        plots=(Plot("Power by number of seeds", "seeds per depth", "power", series, log_x=True),),
        tables=(Table(f"Seeds needed to distinguish {pair}", columns, rows),),
        notes=(
            SCORE_NOTE,
            f"Seeds per depth with which a two-sided test at level {LEVEL:g} has a power of "
            f"{POWER:g}, for normal scores of equal variance. Difference and standard deviation "
            f"are estimated from {existing} seeds, so the numbers are orders of magnitude. A "
            "difference that was selected because it is large is likely overestimated.",
        ),
    )


def _verdict(pair: str, share: float, needed: SeedsNeeded, existing: int) -> Verdict:
    part = "" if share == 1 else f"{100 * share:.0f} % of "
    enough = needed.seeds is not None and existing >= needed.seeds
    conclusion = f"there are {existing}" + (", which is enough." if enough else ".")
    return untested_estimate(
        f"To detect {part}the observed difference between {pair}, {_count(needed)} seeds per depth "
        f"are needed; {conclusion}"
    )


def _count(needed: SeedsNeeded) -> str:
    return f"more than {MOST_SEEDS:,}" if needed.seeds is None else str(needed.seeds)
