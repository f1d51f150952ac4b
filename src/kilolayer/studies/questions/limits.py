"""At which depth do signals, gradients or representations fail?"""

from typing import Any

import numpy as np
from scipy import stats

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, assess_claims
from kilolayer.analysis.diagnostics import block_diagnostics
from kilolayer.analysis.groups import mean_text
from kilolayer.analysis.statistics import proportion_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.analysis.study_scores import group_runs, mean_minutes
from kilolayer.errors import UserError
from kilolayer.studies.question import Setup, Size
from kilolayer.studies.setups import PAPER, POINT

ACCURACY, LOSS = "critic/accuracy", "critic/contrastive_loss"
DEPTHS = (64, 256, 1024, 4096)
# A critic learns if its mean accuracy in the last quarter of training is this multiple of chance.
LEARNT = 2.0
SHORT: dict[str, Any] = {"num_evaluations": 2, "eval_envs": 16}
# Fewer steps than the size quick of other questions, in networks up to 512 times as deep.
QUICK = POINT.having(total_steps=16_000, width=16, batch_size=64, **SHORT)
SETUPS: dict[Size, Setup] = {
    "quick": Setup(QUICK, (64, 256, 1024), 2),
    "laptop": Setup(POINT.having(total_steps=40_000, **SHORT), DEPTHS, 2),
    "paper": Setup(PAPER.having(total_steps=1_000_000, **SHORT), DEPTHS, 3),
}


def late_mean(run: StudyRun, metric: str) -> float:
    """Mean over the last quarter of the rounds."""
    values = run.run.curve(metric)[1]
    if len(values) == 0:
        raise UserError(f"{run.name} has no {metric}: this question needs runs of the agent crl.")
    return float(values[-max(1, len(values) // 4) :].mean())


def analyse(study: Study) -> Answer:
    groups = group_runs(study.finished, "depth")
    if not groups:
        raise UserError("every run failed: see the study's folder failures.")
    counts = {depth: len(runs) for (depth,), runs in group_runs(study.runs, "depth").items()}
    rows, series, learning = [], {"first block": [], "last block": []}, dict.fromkeys(counts, 0)
    for (depth,), runs in groups.items():
        chance = 1 / runs[0].run.config.agent.batch_size
        accuracy = np.array([late_mean(run, ACCURACY) for run in runs])
        loss = np.array([late_mean(run, LOSS) for run in runs])
        blocks = block_diagnostics(runs[0].run)["state-action encoder"]
        learning[depth] = int((accuracy > LEARNT * chance).sum())
        for name, index in (("first block", 0), ("last block", -1)):
            series[name].append((depth, float(blocks.gradient_norm[index])))
        rows.append(
            (
                str(depth),
                f"{len(runs)} of {counts[depth]}",
                mean_text(accuracy / chance, (0.0, 1 / chance)),
                mean_text(np.log(runs[0].run.config.agent.batch_size) - loss),
                f"{blocks.residual_norm[-1]:.3g}",
                f"{blocks.effective_rank[-1]:.3g}",
                f"{blocks.dormant_share.mean():.2f}",
                f"{mean_minutes(runs):.1f}",
            )
        )
    columns = (
        "depth", "finished", "accuracy over chance", "log B - loss, nats", "residual norm, last",
        "effective rank, last", "dormant share", "minutes",
    )  # fmt: skip
    lines = tuple(
        Series(name, *(tuple(map(float, part)) for part in zip(*points, strict=True)))
        for name, points in series.items()
    )
    return Answer(
        verdicts=assess_claims(_claims(counts, learning)),
        plots=(
            Plot(
                "Gradient of the state-action encoder's blocks", "depth", "norm", lines, log_x=True
            ),
        ),
        tables=(Table("Short runs", columns, tuple(rows)),),
        notes=(
            "Short runs show whether learning starts, not the final performance. A run learns if "
            f"the critic's accuracy in the last quarter of training is {LEARNT:g} times that of "
            "chance. p is that of a binomial test against a probability of 0.5; a failed run "
            "counts as not learning. Norms and ranks are those of the first seed.",
        ),
    )


def _claims(counts: dict[int, int], learning: dict[int, int]) -> list[Claim]:
    """The share of runs in which the critic learns, by depth.

    counts: finished and failed runs; learning: runs that learn."""
    return [
        Claim(
            f"At depth {depth} the critic learns in {learning[depth]} of {count} runs; the "
            "share is",
            proportion_interval(learning[depth], count),
            float(stats.binomtest(learning[depth], count, 0.5).pvalue),
            0,
            None,
        )
        for depth, count in counts.items()
    ]
