"""What breaks when one stabiliser of the recipe is taken away?"""

import dataclasses

from scipy import stats

from kilolayer.analysis.answer import Answer, Table
from kilolayer.analysis.claims import Claim, judged, unsettled
from kilolayer.analysis.differences import difference
from kilolayer.analysis.outcomes import (
    SCORE_NOTE,
    bars,
    change_claim,
    final_scores,
    group,
    score_table,
)
from kilolayer.analysis.statistics import share_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.studies.grid import Factor, Grid
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.setups import extremes

FACTORS = ("removed", "depth")
WHOLE = "whole"
REMOVED: Factor = {
    WHOLE: {},
    "no residual": {"residual": "none"},
    "no norm": {"norm": "none"},
    "relu": {"activation": "relu"},
    "unscaled branches": {"branch_scale": "none"},
    "no penalty": {"logsumexp_penalty": 0.0},
}


def grids(setup: Setup, removed: Factor = REMOVED) -> list[Grid]:
    """The whole recipe and its variants without one part, at a small and a large depth."""
    return [setup.grid({"removed": removed, "depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    ended = [run for run in study.runs if run.state in ("finished", "failed")]
    groups, claims, plots, too_few = group(ended, *FACTORS), [], [], []
    for depth in sorted({depth for _, depth in groups}):
        whole, changes = groups.get((WHOLE, depth), []), {}
        for (removed, at), runs in groups.items():
            if at != depth or removed == WHOLE:
                continue
            name = f"At depth {depth}, {removed}"
            if broken := _broken(runs) + _broken(whole):
                claims.append(_failure_claim(name, runs, whole))
            scores, baseline = (final_scores(_finished(each)) for each in (runs, whole))
            if min(len(scores), len(baseline)) < 2:
                too_few.append(f"{name}: too few runs finished to compare scores with the whole.")
                continue
            change = difference(scores, baseline)
            changes[removed] = change.value
            claim = change_claim(study, f"{name}: the score changes by", change)
            claims.append(dataclasses.replace(claim, failed=broken))
        plots.append(bars(f"Change of the score at depth {depth}", "change of the score", changes))
    failures = [(run.name, (run.failure or "").splitlines()[-1]) for run in ended if run.failure]
    tables = [score_table("Scores", FACTORS, group(study.finished, *FACTORS))]
    if failures:
        tables.append(Table("Runs that failed", ("run", "last line"), tuple(failures)))
    verdicts = judged(sorted(claims, key=lambda claim: claim.p))
    return Answer(
        verdicts=(*verdicts, *map(unsettled, too_few))
        or (unsettled("Only the whole recipe has finished."),),
        plots=tuple(plots),
        tables=tuple(tables),
        notes=(SCORE_NOTE, "Shares of failed runs are compared by Fisher's exact test."),
    )


def _failure_claim(name: str, runs: list[StudyRun], whole: list[StudyRun]) -> Claim:
    """Claim that runs of the variant fail more or less often than those of the whole recipe."""
    counts = [(_broken(each), len(each)) for each in (runs, whole)]
    table = [[failed, count - failed] for failed, count in counts]
    (failed, count), (of_whole, count_of_whole) = counts
    says = (
        f"{name}: {failed} of {count} runs broke off, of the whole recipe {of_whole} of "
        f"{count_of_whole}; as a share"
    )
    p = float(stats.fisher_exact(table)[1])  # type: ignore[arg-type]
    return Claim(says, share_interval(failed, count), p, 0, None)


def _finished(runs: list[StudyRun]) -> list[StudyRun]:
    return [run for run in runs if run.state == "finished"]


def _broken(runs: list[StudyRun]) -> int:
    return len(runs) - len(_finished(runs))


def question() -> Question:
    return Question(
        name="recipe",
        asks="What breaks when one stabiliser of the recipe is taken away, shallow and deep?",
        setups=extremes(),
        grids=grids,
        analyse=analyse,
        needs="removed",
    )
