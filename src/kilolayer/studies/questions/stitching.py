"""Does depth help to reach far goals after training on near goals (trajectory stitching)?"""

import numpy as np

from kilolayer.analysis.answer import Answer, Plot, Table
from kilolayer.analysis.claims import assess_claims
from kilolayer.analysis.differences import mean_difference
from kilolayer.analysis.groups import mean_text
from kilolayer.analysis.study import Study
from kilolayer.analysis.study_scores import (
    DEPTH_AXIS,
    SCORE_NOTE,
    difference_claim,
    score_series,
    scores_by,
    study_score_bounds,
)
from kilolayer.errors import UserError
from kilolayer.recommendations import recommended
from kilolayer.studies.question import Setup, Size
from kilolayer.studies.setups import PAPER, POINT
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.training.evaluate import evaluation_key, evaluation_start

FAR, NEAR = "evaluation/success", "evaluation_training_goals/success"
PAIRS = 512  # of start and goal, sampled to measure their distance
TASK = "ant_u4_maze_stitching"
SETUPS: dict[Size, Setup] = {
    # Point mazes draw training goals in all cells and evaluation goals in far cells, so this size
    # is a rehearsal.
    "quick": Setup(POINT, (4, 16), 3),
    "laptop": Setup(recommended(TASK, tensorboard=False), (4, 8, 16), 5),
    "paper": Setup(PAPER.having(task=TASK), (4, 16, 64), 5),
}


def analyse(study: Study) -> Answer:
    if any(len(run.run.curve(NEAR)[0]) == 0 for run in study.finished):
        raise UserError("the task has no separate training goals, so no trajectories are stitched.")
    far, near = (scores_by(study, "depth", metric=metric) for metric in (FAR, NEAR))
    if len(far) < 2:
        raise UserError("a comparison needs two depths: add depths to the study.")
    shallow, deep = min(far), max(far)
    # The gap is taken within each run, since one network has both scores.
    gaps = {depth: near[depth] - far[depth] for depth in far}
    claims = [
        difference_claim(study, statement, mean_difference(scores[deep], scores[shallow]), FAR)
        for statement, scores in (
            (f"From depth {shallow} to {deep} success on far goals changes by", far),
            ("The gap between near and far goals changes by", gaps),
        )
    ]
    bounds = study_score_bounds(study, FAR)
    rows = tuple(
        (
            str(depth),
            str(len(far[depth])),
            mean_text(near[depth], bounds),
            mean_text(far[depth], bounds),
            mean_text(gaps[depth], (-1.0, 1.0)),
        )
        for depth in far
    )
    series = (
        score_series(study, "far goals", far, FAR),
        score_series(study, "training goals", near, FAR),
    )
    return Answer(
        verdicts=assess_claims(claims),
        plots=(Plot("Success by depth", DEPTH_AXIS, "success", series, log_x=True),),
        tables=(Table("Success", ("depth", "seeds", "near goals", "far goals", "gap"), rows),),
        notes=(
            SCORE_NOTE,
            "Success: share of episodes with at least one step within the success radius.",
            stitching_note(study.finished[0].run.task),
        ),
    )


def stitching_note(task: Task) -> str:
    """Whether training samples pairs of start and goal as distant as those of the evaluation."""
    lengths = {split: path_lengths(task, split) for split in ("training", "evaluation")}
    farthest, nearest = lengths["training"].max(), np.median(lengths["evaluation"])
    if farthest < nearest:
        return (
            f"Training paths have at most {farthest} cells, and half of the evaluation paths have "
            f"{nearest:g} cells or more: these need stitching of shorter paths."
        )
    share = (lengths["training"] >= nearest).mean()
    return (
        f"Training goals are far away too: {100 * share:.0f} % of the training paths have "
        f"{nearest:g} cells or more, as have half of the evaluation paths. No stitching is needed, "
        "so this study only rehearses the question."
    )


def path_lengths(task: Task, split: GoalSplit) -> np.ndarray:
    """Cells from start to goal, `[PAIRS]`; raises UserError for a task without a maze."""
    if task.maze is None:
        raise UserError("the task has no maze, so path lengths are not defined.")
    start = evaluation_start(task, evaluation_key(0, 0), PAIRS, split)
    return task.maze.path_lengths_between(
        np.asarray(start.qpos[:, :2]), np.asarray(start.goal[:, :2])
    )
