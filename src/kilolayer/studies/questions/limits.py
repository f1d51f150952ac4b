"""From which depth on do signals, gradients or representations fail?"""

from typing import Any

import numpy as np
from scipy import stats

from kilolayer.analysis.answer import Answer, Plot, Series, Table
from kilolayer.analysis.claims import Claim, judged
from kilolayer.analysis.diagnostics import block_diagnostics
from kilolayer.analysis.groups import with_interval
from kilolayer.analysis.outcomes import group, minutes
from kilolayer.analysis.statistics import share_interval
from kilolayer.analysis.study import Study, StudyRun
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import PAPER, POINT
from kilolayer.types import UserError

ACCURACY, LOSS = "critic/accuracy", "critic/contrastive_loss"
DEPTHS = (64, 256, 1024, 4096)
# A critic learns if its accuracy is this many times chance, mean of the last quarter of training.
LEARNT = 2.0
SHORT: dict[str, Any] = {"num_evaluations": 2, "eval_envs": 16}


def late(run: StudyRun, metric: str) -> float:
    """Mean over the last quarter of the rounds."""
    values = run.run.curve(metric)[1]
    if len(values) == 0:
        raise UserError(f"{run.name} has no {metric}: this question is about the agent crl.")
    return float(values[-max(1, len(values) // 4) :].mean())


def analyse(study: Study) -> Answer:
    groups = group(study.finished, "depth")
    if not groups:
        raise UserError("every run broke off: see the study's failures.")
    failed = group([run for run in study.runs if run.state == "failed"], "depth")
    rows, series, learns = [], {"first block": [], "last block": []}, {}
    for (depth,), runs in groups.items():
        chance = 1 / runs[0].run.config.agent.batch_size
        accuracy = np.array([late(run, ACCURACY) for run in runs])
        loss = np.array([late(run, LOSS) for run in runs])
        blocks = block_diagnostics(runs[0].run)["state-action encoder"]
        learns[depth] = int((accuracy > LEARNT * chance).sum())
        for name, place in (("first block", 0), ("last block", -1)):
            series[name].append((depth, float(blocks.gradient_norm[place])))
        rows.append(
            (
                str(depth),
                f"{len(runs)} of {len(runs) + len(failed.get((depth,), ()))}",
                with_interval(accuracy / chance, (0.0, 1 / chance)),
                with_interval(np.log(runs[0].run.config.agent.batch_size) - loss),
                f"{blocks.residual_norm[-1]:.3g}",
                f"{blocks.effective_rank[-1]:.3g}",
                f"{blocks.dormant_share.mean():.2f}",
                f"{minutes(runs):.1f}",
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
        verdicts=judged(_claims(study, learns)),
        plots=(
            Plot(
                "Gradient of the state-action encoder's blocks", "depth", "norm", lines, log_x=True
            ),
        ),
        tables=(Table("Short runs", columns, tuple(rows)),),
        notes=(
            "Short runs: they show what starts, not what is learnt in the end. A depth learns here "
            f"if the critic finds the right goal {LEARNT:g} times as often as chance in the last "
            "quarter of training. p is that of a coin deciding which runs learn; a run that failed "
            "did not learn. Norms and ranks are those of the first seed.",
        ),
    )


def _claims(study: Study, learns: dict[int, int]) -> list[Claim]:
    """For every depth, the share of runs in which the critic learns; failed runs do not learn."""
    ended = [run for run in study.runs if run.state in ("finished", "failed")]
    counts = {depth: len(runs) for (depth,), runs in group(ended, "depth").items()}
    return [
        Claim(
            f"At depth {depth} the critic starts to learn in {learns.get(depth, 0)} of {count} "
            "runs; as a share",
            share_interval(learns.get(depth, 0), count),
            float(stats.binomtest(learns.get(depth, 0), count, 0.5).pvalue),
            0,
            None,
        )
        for depth, count in counts.items()
    ]


def question() -> Question:
    # A fraction of the quick size's steps, in networks up to 512 times as deep.
    point = POINT.having(total_steps=16_000, width=16, batch_size=64, **SHORT)
    laptop = POINT.having(total_steps=40_000, **SHORT)
    paper = PAPER.having(total_steps=1_000_000, **SHORT)
    return Question(
        name="limits",
        asks="From which depth on do signals, gradients or representations fail?",
        setups={
            "quick": Setup(point, (64, 256, 1024), 2),
            "laptop": Setup(laptop, DEPTHS, 2),
            "paper": Setup(paper, DEPTHS, 3),
        },
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
