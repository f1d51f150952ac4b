"""The base configs of the questions, by size.

Three seeds only rehearse a study: with fewer than four seeds per group no p-value is below 5 %,
since three against three can be divided in only twenty ways.
"""

import dataclasses

from kilolayer.config import RunConfig
from kilolayer.recommendations import recommended
from kilolayer.studies.question import Setup, Size

# A point U-maze, half a minute per run. A shallow network solves it near the end of training, so
# these runs compare learning speed and not final performance.
POINT: RunConfig = recommended(
    "point_u_maze",
    total_steps=60_000,
    num_envs=64,
    width=32,
    average_decay=0.99,  # the recommended decay averages over more updates than these runs have
    num_evaluations=7,
    eval_envs=64,
    tensorboard=False,
)
# The hardest point maze, paths of up to 15 cells, minutes per run; no run so far solved it fully.
MAZE: RunConfig = recommended("point_hardest_maze", tensorboard=False)
# A robot arm that pushes a cube, in MuJoCo. On arms the published curves of depths 4 and 8 part
# early: 170 and 340 of 1,000 steps at the goal after 200,000 steps of the published recipe.
BODY: RunConfig = recommended(
    "arm_push_easy",
    seed=10,  # seeds 0 and 1 chose the task and the budget: results/depth_body/plan.md
    total_steps=1_000_000,
    num_evaluations=20,
    eval_envs=128,
    tensorboard=False,
)
# arXiv 2503.14858: for a GPU.
PAPER: RunConfig = recommended(
    "ant_big_maze",
    recipe="wang2025",
    total_steps=100_000_000,
    depth=64,
    num_evaluations=100,
    tensorboard=False,
)


# The setups of most questions.
BY_DEPTH: dict[Size, Setup] = {
    "quick": Setup(POINT, (4, 8, 16), 3),
    "laptop": Setup(MAZE, (4, 8, 16), 5),
    "body": Setup(BODY, (4, 8, 16, 32), 5),
    "paper": Setup(PAPER, (4, 8, 16, 32, 64), 5),
}
# One shallow and one deep network, for grids with many other factors.
EXTREMES: dict[Size, Setup] = {
    "quick": Setup(POINT, (4, 16), 3),
    "laptop": Setup(MAZE, (4, 16), 5),
    "body": Setup(BODY, (4, 16), 5),
    "paper": Setup(PAPER, (4, 64), 5),
}


def with_training_goals(setups: dict[Size, Setup]) -> dict[Size, Setup]:
    """The same setups with evaluations of the training goals."""
    return {
        size: dataclasses.replace(setup, base=setup.base.having(evaluate_training_goals=True))
        for size, setup in setups.items()
    }
