"""`ant_medium_maze` with every training episode in one corner: a control.

    kilolayer train --config CONFIG --task results.ant_mazes.one_start:task

CONFIG: the settings of this page, `results/ant_mazes/config.json`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from kilolayer.tasks.ant import Ant
from kilolayer.tasks.base import GoalSplit
from kilolayer.tasks.mazes import TASK_NOISE, Maze
from kilolayer.types import Array


@dataclass(frozen=True)
class OneStart(Ant):
    """The medium maze as it is; in training, all starts lie in the maze's first corner."""

    layout: str | None = "medium"

    @property
    def name(self) -> str:
        return "ant_medium_maze_one_start"

    def _start(self, key: Array, goal: Array, split: GoalSplit) -> Array:
        if split == "evaluation":
            return super()._start(key, goal, split)
        spread = TASK_NOISE * self.cell_size
        noise = jax.random.uniform(key, goal.shape, minval=-spread, maxval=spread)
        return jnp.asarray(Maze("medium", self.cell_size).start, jnp.float32) + noise


def task() -> OneStart:
    return OneStart()
