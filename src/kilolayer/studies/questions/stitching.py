"""Trained on near goals, tested on far goals: does depth help to combine known paths?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.claims import judged
from kilolayer.analysis.differences import difference
from kilolayer.analysis.groups import with_interval
from kilolayer.analysis.outcomes import (
    DEPTH_AXIS,
    SCORE_NOTE,
    bounds_of,
    change_claim,
    score_series,
    scores_by,
)
from kilolayer.analysis.study import Study
from kilolayer.config import RunConfig
from kilolayer.recommendations import recommended
from kilolayer.studies.question import Question, Setup
from kilolayer.studies.questions.depth import grids
from kilolayer.studies.setups import PAPER, POINT, with_training_goals
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.training.evaluate import evaluation_key, evaluation_start
from kilolayer.types import UserError

FAR, NEAR = "evaluation/success", "evaluation_training_goals/success"
DRAWN = 512  # pairs of start and goal, sampled to measure how far apart they are
TASK = "ant_u4_maze_stitching"
LAPTOP: RunConfig = recommended(TASK, tensorboard=False)


def analyse(study: Study) -> Answer:
    if any(len(run.run.curve(NEAR)[0]) == 0 for run in study.finished):
        raise UserError("the task has no goals of its own for training, so nothing is stitched.")
    far, near = (scores_by(study, "depth", metric=metric) for metric in (FAR, NEAR))
    if len(far) < 2:
        raise UserError("a comparison needs two depths: add depths to the study.")
    shallow, deep = min(far), max(far)
    # The gap is taken within each run, since one network has both scores.
    gaps = {depth: near[depth] - far[depth] for depth in far}
    claims = [
        change_claim(study, says, difference(scores[deep], scores[shallow]), FAR)
        for says, scores in (
            (f"From depth {shallow} to {deep} success on far goals changes by", far),
            ("The gap between near and far goals changes by", gaps),
        )
    ]
    share = bounds_of(study, FAR)
    rows = tuple(
        (
            str(depth),
            str(len(far[depth])),
            with_interval(near[depth], share),
            with_interval(far[depth], share),
            with_interval(gaps[depth], (-1.0, 1.0)),
        )
        for depth in far
    )
    series = (
        score_series("far goals", far, share),
        score_series("goals as in training", near, share),
    )
    return Answer(
        verdicts=judged(claims),
        plots=(Plot("Success by depth", DEPTH_AXIS, "success", series, log_x=True),),
        tables=(Table("Success", ("depth", "seeds", "near goals", "far goals", "gap"), rows),),
        notes=(
            SCORE_NOTE,
            "Success: share of episodes with any step within the radius.",
            what_is_stitched(study.finished[0].run.task),
        ),
    )


def what_is_stitched(task: Task) -> str:
    """Whether training samples pairs of start and goal as far apart as the evaluation does."""
    lengths = {split: path_lengths(task, split) for split in ("training", "evaluation")}
    farthest, nearest = lengths["training"].max(), np.median(lengths["evaluation"])
    if farthest < nearest:
        return (
            f"Training never asks for a way of more than {farthest} cells, and half of the "
            f"evaluation's ways have {nearest:g} cells or more: those must be put together."
        )
    share = (lengths["training"] >= nearest).mean()
    return (
        f"Training goals lie far away too: {100 * share:.0f} % of the training episodes ask for a "
        f"way of {nearest:g} cells or more, which half of the evaluation's have. So nothing need "
        "be put together, and this is a rehearsal of the question."
    )


def path_lengths(task: Task, split: GoalSplit) -> np.ndarray:
    """Cells from start to goal, `[DRAWN]`; raises UserError for a task without a maze."""
    if task.maze is None:
        raise UserError("the task has no maze, so no way is put together from others.")
    start = evaluation_start(task, evaluation_key(0, 0), DRAWN, split)
    return task.maze.path_lengths_between(
        np.asarray(start.qpos[:, :2]), np.asarray(start.goal[:, :2])
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
                "laptop": Setup(LAPTOP, (4, 8, 16), 5),
                "paper": Setup(PAPER.having(task=TASK), (4, 16, 64), 5),
            }
        ),
        grids=grids,
        analyse=analyse,
        needs="depth",
    )
