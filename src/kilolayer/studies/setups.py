"""The configs that questions start from, by size.

Three seeds rehearse a study; fewer than four can settle nothing at 5 %, since three against three
can be divided in twenty ways.
"""

import dataclasses

from kilolayer.config import RunConfig
from kilolayer.recommendations import recommended
from kilolayer.studies.question import Setup, Size

# A point U-maze in half a minute a run. A shallow network learns it towards the end, so that it
# shows who learns faster, and says little of what deep networks are for.
POINT: RunConfig = recommended(
    "point_u_maze",
    total_steps=60_000,
    num_envs=64,
    width=32,
    average_decay=0.99,  # the recommended one looks back further than these runs are long
    num_evaluations=7,
    eval_envs=64,
    tensorboard=False,
)
# The hardest point maze, ways of up to 15 cells: minutes a run, and none so far solved it whole.
MAZE: RunConfig = recommended("point_hardest_maze", tensorboard=False)
# arXiv 2503.14858: for a GPU.
PAPER: RunConfig = recommended(
    "ant_big_maze",
    recipe="wang2025",
    total_steps=100_000_000,
    depth=64,
    num_evaluations=100,
    tensorboard=False,
)


def by_depth() -> dict[Size, Setup]:
    """What most questions about depth take."""
    return {
        "quick": Setup(POINT, (4, 8, 16), 3),
        "laptop": Setup(MAZE, (4, 8, 16), 5),
        "paper": Setup(PAPER, (4, 8, 16, 32, 64), 5),
    }


def with_training_goals(setups: dict[Size, Setup]) -> dict[Size, Setup]:
    """The same for a question about curves of the training goals' scores."""
    return {
        size: dataclasses.replace(setup, base=setup.base.having(evaluate_training_goals=True))
        for size, setup in setups.items()
    }


def extremes() -> dict[Size, Setup]:
    """Shallow beside deep, where each takes many other cells."""
    return {
        "quick": Setup(POINT, (4, 16), 3),
        "laptop": Setup(MAZE, (4, 16), 5),
        "paper": Setup(PAPER, (4, 64), 5),
    }
