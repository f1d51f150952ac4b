"""What legged bodies share: mazes, falls, and measures of their movement."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks import behaviour
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array


@dataclass(frozen=True)
class Legged(Task):
    """A body whose torso has a free joint, on open ground or in a maze.

    layout: a maze's name, or None for open ground.
    """

    layout: str | None = None

    body: ClassVar[str]
    cell_size: ClassVar[float]
    """Side of a maze's cell, m."""
    healthy_height: ClassVar[tuple[float, float] | None] = None
    """Lowest and highest torso height, m; outside, the episode ends. None: it never ends early."""

    @property
    @abstractmethod
    def world(self) -> MujocoWorld:
        """The body on its ground, with the walls of its maze if there is one."""

    @property
    def name(self) -> str:
        return self.body if self.layout is None else f"{self.body}_{self.layout}_maze"

    @property
    def maze(self) -> Maze | None:
        return None if self.layout is None else Maze(self.layout, self.cell_size)

    @property
    def splits(self) -> tuple[GoalSplit, ...]:
        return ("evaluation",) if self.maze is None else ("evaluation", "training")

    def terminated(self, state: PhysicsState) -> Array:
        if self.healthy_height is None:
            return super().terminated(state)
        low, high = self.healthy_height
        height = state.qpos[:, 2]
        return (height < low) | (height > high)

    def behaviour(self, qpos: np.ndarray, alive: np.ndarray) -> dict[str, float]:
        return behaviour.legged(self.world, qpos, alive)
