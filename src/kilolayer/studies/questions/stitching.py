"""Trained on near goals, tested on far ones: does depth put known pieces together?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.contrasts import Cells
from kilolayer.analysis.groups import with_interval
from kilolayer.analysis.outcomes import DEPTH_AXIS, SCORE_NOTE, score_series, scores_by
from kilolayer.analysis.study import Study
from kilolayer.analysis.verdict import Verdict, strength
from kilolayer.config import RunConfig
from kilolayer.recommendations import recommended
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import PAPER, POINT, with_training_goals
from kilolayer.types import UserError

FAR, NEAR = "evaluation/success", "evaluation_training_goals/success"
TASK = "ant_u4_maze_stitching"
LAPTOP: RunConfig = recommended(TASK, tensorboard=False)


def analyse(study: Study) -> Answer:
    if any(len(run.run.curve(NEAR)[0]) == 0 for run in study.finished):
        raise UserError("the task has no goals of its own for training, so nothing is stitched.")
    far, near = (scores_by(study, "depth", metric=metric) for metric in (FAR, NEAR))
    if len(far) < 2:
        raise UserError("a comparison needs two depths: add depths to the study.")
    shallow, deep = min(far), max(far)
    cells = Cells.from_seeds([far[shallow], far[deep]])
    weights = np.array([-1.0, 1.0])
    p = cells.p_not_zero(weights)
    # The gap of a run is its own: near and far are scored by the same network.
    gaps = Cells.from_seeds([near[depth] - far[depth] for depth in (shallow, deep)])
    p_gap = gaps.p_not_zero(weights)
    rows = tuple(
        (
            str(depth),
            str(len(far[depth])),
            with_interval(near[depth]),
            with_interval(far[depth]),
            with_interval(near[depth] - far[depth]),
        )
        for depth in far
    )
    series = (score_series("far goals", far), score_series("near goals, as in training", near))
    return Answer(
        verdicts=(
            Verdict(
                f"From depth {shallow} to {deep} success on far goals changes by "
                f"{cells.estimate(weights)}, p = {p:.2g}.",
                strength(p),
            ),
            Verdict(
                f"The gap between near and far goals changes by {gaps.estimate(weights)}, "
                f"p = {p_gap:.2g}.",
                strength(p_gap),
            ),
        ),
        plots=(Plot("Success by depth", DEPTH_AXIS, "success", series, log_x=True),),
        tables=(Table("Success", ("depth", "seeds", "near goals", "far goals", "gap"), rows),),
        notes=(
            SCORE_NOTE,
            "Success: share of episodes with any step within the radius. In training goals are "
            "near their starts, in the evaluation far; no trajectory of training joins the two.",
        ),
    )


def question() -> Question:
    return Question(
        name="stitching",
        asks="Trained on near pairs of start and goal, does depth help to reach far ones?",
        setups=with_training_goals(
            {
                # In the point mazes training goals are drawn in all cells and evaluation goals in
                # the far ones, so this size is a rehearsal.
                "quick": Setup(POINT, (4, 16), 3),
                "laptop": Setup(LAPTOP, (4, 8, 16), 3),
                "paper": Setup(PAPER.having(task=TASK), (4, 16, 64), 5),
            }
        ),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
