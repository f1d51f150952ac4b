"""What fails when one stabiliser is removed from the recipe?"""

import dataclasses

from scipy import stats

from kilolayer.analysis.answer import Answer, Table
from kilolayer.analysis.claims import Claim, assess_claims, inconclusive
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.statistics import proportion_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import (
    SCORE_NOTE,
    bar_plot,
    difference_claim,
    final_scores,
    group_runs,
    score_table,
)
from kilolayer.studies.grid import Factor, Grid
from kilolayer.studies.question import Setup

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


def grids(setup: Setup) -> list[Grid]:
    """The whole recipe and its variants with one stabiliser removed, at every depth."""
    return [setup.grid({"removed": REMOVED, "depth": setup.depth_factor})]


def analyse(study: Study) -> Answer:
    groups, claims, plots, untested = group_runs(study.runs, *FACTORS), [], [], []
    for depth in sorted({depth for _, depth in groups}):
        whole, estimates = groups.get((WHOLE, depth), []), {}
        for (removed, at), runs in groups.items():
            if at != depth or removed == WHOLE:
                continue
            name = f"At depth {depth}, {removed}"
            if failed := _failures(runs) + _failures(whole):
                claims.append(_failure_claim(name, runs, whole))
            scores, baseline = (final_scores(_finished(each)) for each in (runs, whole))
            if min(len(scores), len(baseline)) < 2:
                untested.append(
                    f"{name}: too few finished runs to compare scores with the whole recipe."
                )
                continue
            change = mean_difference(scores, baseline)
            estimates[removed] = change.estimate
            claim = difference_claim(study, f"{name}: the score changes by", change)
            claims.append(dataclasses.replace(claim, failed=failed))
        plots.append(
            bar_plot(f"Change of the score at depth {depth}", "change of the score", estimates)
        )
    failures = [(run.name, run.failure.splitlines()[-1]) for run in study.runs if run.failure]
    tables = [score_table(study, *FACTORS)]
    if failures:
        tables.append(Table("Runs that failed", ("run", "last line"), tuple(failures)))
    verdicts = assess_claims(sorted(claims, key=lambda claim: claim.p))
    return Answer(
        verdicts=(*verdicts, *map(inconclusive, untested))
        or (inconclusive("Only runs of the whole recipe have finished."),),
        plots=tuple(plots),
        tables=tuple(tables),
        notes=(SCORE_NOTE, "Shares of failed runs are compared with Fisher's exact test."),
    )


def _failure_claim(name: str, runs: list[StudyRun], whole: list[StudyRun]) -> Claim:
    """Claim that runs of the variant fail more or less often than those of the whole recipe."""
    failed, count, whole_failed, whole_count = (
        _failures(runs), len(runs), _failures(whole), len(whole),
    )  # fmt: skip
    table = [[failed, count - failed], [whole_failed, whole_count - whole_failed]]
    statement = (
        f"{name}: {failed} of {count} runs failed, against {whole_failed} of {whole_count} with "
        "the whole recipe; the share is"
    )
    p = float(stats.fisher_exact(table)[1])  # type: ignore[arg-type]
    return Claim(statement, proportion_interval(failed, count), p, 0, None)


def _finished(runs: list[StudyRun]) -> list[StudyRun]:
    return [run for run in runs if run.state == "finished"]


def _failures(runs: list[StudyRun]) -> int:
    return len(runs) - len(_finished(runs))
