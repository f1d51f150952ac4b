"""Where the goals of a task may lie, and the floor that a person points at."""

from dataclasses import dataclass

import jax
import numpy as np

from kilolayer.analysis.value_map import OPEN_MARGIN
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Task, goals_are_places
from kilolayer.types import UserError

# A goal that is moved out of a wall keeps this far from it, in cells: so do goals of training.
WALL_CLEARANCE = 0.25
DRAWN_GOALS = 256  # that show where goals lie


@dataclass(frozen=True)
class Ground:
    """What is shown of the floor, and which goals can be told.

    bounds: lowest x and y, highest x and y of the floor. low, high `[goal]`: of each coordinate of
    a goal. template `[goal]`: a goal of the task, for what a click does not say, such as a height.
    """

    task: Task
    bounds: tuple[float, float, float, float]
    low: np.ndarray
    high: np.ndarray
    template: np.ndarray

    @staticmethod
    def of(task: Task) -> "Ground":
        """Raises UserError for an environment of Gymnasium, which keeps its bodies to itself."""
        if isinstance(task.world, GymnasiumWorld):
            raise UserError(
                f"task {task.name} cannot be shown on the page: step the environment yourself, "
                "made by gymnasium.make with render_mode='rgb_array', with the run's policy "
                "(`kilolayer.load(RUN).policy`), and call its render."
            )
        goals = np.concatenate(
            [
                np.asarray(task.sample_goal(jax.random.key(0), DRAWN_GOALS, split), float)
                for split in task.splits
            ]
        )
        low, high = (np.array(end, float) for end in task.goal_box or (goals.min(0), goals.max(0)))
        if not goals_are_places(task):
            return Ground(task, _around(task, goals), low, high, goals[0])
        if task.maze is None:
            half = OPEN_MARGIN * float(np.linalg.norm(goals[:, :2], axis=-1).max())
            bounds = -half, -half, half, half
        else:
            side = task.maze.cell_size
            first = -side / 2
            last = (np.array(task.maze.walls.shape) * side + first).tolist()
            bounds = first, first, last[0], last[1]
        low[:2], high[:2] = bounds[:2], bounds[2:]
        return Ground(task, bounds, low, high, goals[0])

    @property
    def places(self) -> bool:
        """Whether a click on the floor names a goal."""
        return goals_are_places(self.task)

    @property
    def free(self) -> np.ndarray:
        """Which coordinates of a goal differ between goals, their numbers."""
        return np.flatnonzero(self.high > self.low)

    @property
    def size(self) -> np.ndarray:
        """Width and height of the floor."""
        return np.array(self.bounds[2:]) - np.array(self.bounds[:2])

    @property
    def centre(self) -> np.ndarray:
        """The middle of the floor, `[2]`."""
        return (np.array(self.bounds[2:]) + np.array(self.bounds[:2])) / 2

    def nearest(self, goal: np.ndarray) -> np.ndarray:
        """The nearest goal `[goal]` that can be told: in a maze one that a way leads to."""
        maze, goal = self.task.maze, np.clip(goal, self.low, self.high)
        if maze is None or not self.places:
            return goal
        place = goal[:2]
        if maze.path_lengths_between(maze.start, place) >= 0:
            return goal
        cells = maze.free_cells
        cells = cells[maze.path_lengths_between(maze.start, cells) >= 0]
        half = (0.5 - WALL_CLEARANCE) * maze.cell_size
        inside = np.clip(place, cells - half, cells + half)
        nearest = inside[np.linalg.norm(inside - place, axis=-1).argmin()]
        return np.concatenate([nearest, goal[2:]])

    def axes(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions along x and along y: centres of the square pixels of a picture of the floor.

        resolution: pixels along the longer side, rounded up to a whole number per cell of a maze.
        """
        cells = np.ones(2) if self.task.maze is None else np.array(self.task.maze.walls.shape)
        count = (-(-resolution // cells.max()) * cells).astype(int)
        x, y = (
            low + (np.arange(pixels) + 0.5) * side / pixels
            for low, pixels, side in zip(self.bounds[:2], count, self.size, strict=True)
        )
        return x, y


def _around(task: Task, goals: np.ndarray) -> tuple[float, float, float, float]:
    """The square around the model and where goals are marked."""
    marked = np.concatenate([task.goal_points(goal)[:, :2] for goal in goals])
    if isinstance(task.world, MujocoWorld):
        centre, reach = task.world.model.stat.center[:2], task.world.model.stat.extent
        marked = np.concatenate([marked, [centre - reach, centre + reach]])
    low, high = marked.min(0), marked.max(0)
    (x, y), half = (low + high) / 2, OPEN_MARGIN * float((high - low).max()) / 2
    return float(x) - half, float(y) - half, float(x) + half, float(y) + half
