"""How many seeds does a claim about depth need?"""

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Verdict, estimated
from kilolayer.analysis.outcomes import SCORE_NOTE, scores_by
from kilolayer.analysis.power import (
    LEVEL,
    MOST_SEEDS,
    POWER,
    SeedsNeeded,
    power_of_difference,
    seeds_needed,
)
from kilolayer.analysis.study import Study
from kilolayer.studies.question import Question
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import by_depth
from kilolayer.types import UserError

SHARES = (1.0, 0.5, 0.25)
COUNTS = (2, 3, 5, 10, 20, 50, 100)


def analyse(study: Study) -> Answer:
    scores = {d: row for d, row in scores_by(study, "depth").items() if len(row) > 1}
    if len(scores) < 2:
        raise UserError("a power analysis needs two depths with two seeds each: run more.")
    shallow, deep = min(scores), max(scores)
    pair = f"depth {shallow} and {deep}"
    found = {share: seeds_needed(scores[deep], scores[shallow], share) for share in SHARES}
    here = min(len(scores[shallow]), len(scores[deep]))
    verdicts = tuple(_verdict(pair, share, each, here) for share, each in found.items())
    rows = tuple(
        (
            f"{100 * share:.0f} % of what was seen",
            f"{each.effect:.3g}",
            f"{abs(each.standardised):.2f}",
            _count(each),
            f"{each.power:.2f}",
        )
        for share, each in found.items()
    )
    columns = ("difference", "in score units", "in spreads", "seeds each", f"power with {here}")
    series = tuple(
        Series(
            f"{100 * share:.0f} % of the difference seen",
            tuple(map(float, COUNTS)),
            tuple(power_of_difference(each.standardised, count) for count in COUNTS),
        )
        for share, each in found.items()
    )
    return Answer(
        verdicts=verdicts,
        plots=(Plot("Power by seeds", "seeds of each depth", "power", series, log_x=True),),
        tables=(Table(f"Seeds to tell {pair} apart", columns, rows),),
        notes=(
            SCORE_NOTE,
            f"Seeds of each depth with which a two-sided test at {LEVEL:g} finds the difference "
            f"with a chance of {POWER:g}, for normal scores of one spread. Difference and spread "
            f"are themselves estimated from {here} seeds, so take the numbers as orders of "
            "magnitude; a difference that was found because it was large is likely smaller.",
        ),
    )


def _verdict(pair: str, share: float, found: SeedsNeeded, here: int) -> Verdict:
    difference = "the difference seen" if share == 1 else f"{100 * share:.0f} % of it"
    enough = found.seeds is not None and here >= found.seeds
    tail = f"there are {here}" + (", which is enough." if enough else ".")
    return estimated(
        f"To tell {pair} apart by {difference} takes {_count(found)} seeds each; {tail}"
    )


def _count(found: SeedsNeeded) -> str:
    return f"more than {MOST_SEEDS:,}" if found.seeds is None else str(found.seeds)


def question() -> Question:
    return Question(
        name="seeds",
        asks="How many seeds does a claim about depth need, by the spread of these runs?",
        setups=by_depth(),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
