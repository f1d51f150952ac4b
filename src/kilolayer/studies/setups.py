"""The configs that questions start from, by size."""

import dataclasses

from kilolayer.config import TrainConfig
from kilolayer.presets import PRESETS
from kilolayer.studies.question import Setup, Size

# A point U-maze in half a minute a run. A shallow network learns it towards the end, so that it
# shows who learns faster, and says little of what deep networks are for.
POINT: TrainConfig = dataclasses.replace(
    PRESETS["quickstart"],
    total_steps=60_000,
    num_envs=64,
    width=32,
    average_decay=0.99,  # the preset's looks back further than these runs are long
    num_evaluations=7,
    eval_envs=64,
    tensorboard=False,
)
# The hardest point maze, ways of up to 15 cells: minutes a run, and none so far solved it whole.
MAZE: TrainConfig = dataclasses.replace(
    PRESETS["quickstart"],
    task="point_hardest_maze",
    total_steps=400_000,
    goal_interval=150,
    tensorboard=False,
)
PAPER: TrainConfig = dataclasses.replace(PRESETS["paper"], tensorboard=False)


def by_depth() -> dict[Size, Setup]:
    """What most questions about depth take."""
    return {
        "quick": Setup(POINT, (4, 8, 16), 3),
        "laptop": Setup(MAZE, (4, 8, 16), 3),
        "paper": Setup(PAPER, (4, 8, 16, 32, 64), 5),
    }


def extremes() -> dict[Size, Setup]:
    """Shallow beside deep, where each takes many other cells."""
    return {
        "quick": Setup(POINT, (4, 16), 3),
        "laptop": Setup(MAZE, (4, 16), 3),
        "paper": Setup(PAPER, (4, 64), 5),
    }
