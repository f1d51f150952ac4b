"""The range of a task's goals, and the floor that a user clicks on."""

from dataclasses import dataclass

import jax
import numpy as np

from kilolayer.analysis.value_map import OPEN_MARGIN
from kilolayer.errors import UserError
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Task, goals_are_positions

# Distance in cells that a goal keeps from the wall it is moved out of, as in training.
WALL_CLEARANCE = 0.25
DRAWN_GOALS = 256  # sampled goals that determine the range


@dataclass(frozen=True)
class Ground:
    """The visible floor and the allowed goals.

    bounds: lowest x and y, highest x and y of the floor. low, high `[goal]`: range of each goal
    coordinate. template `[goal]`: a goal of the task; it gives the coordinates that a click does
    not set, such as a height.
    """

    task: Task
    bounds: tuple[float, float, float, float]
    low: np.ndarray
    high: np.ndarray
    template: np.ndarray

    @staticmethod
    def of(task: Task) -> "Ground":
        """The ground of a task; raises UserError for a Gymnasium environment, whose bodies are not
        accessible."""
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
        if not goals_are_positions(task):
            return Ground(task, _square_around(task, goals), low, high, goals[0])
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
        """Whether a click on the floor sets a goal."""
        return goals_are_positions(self.task)

    @property
    def free(self) -> np.ndarray:
        """Indices of the goal coordinates that vary."""
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
        """The nearest allowed goal `[goal]`; in a maze, the nearest reachable one."""
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
        """x and y coordinates of the pixel centres of a picture of the floor, with square pixels.

        resolution: pixels along the longer side, rounded up to a whole number per maze cell.
        """
        cells = np.ones(2) if self.task.maze is None else np.array(self.task.maze.walls.shape)
        count = (-(-resolution // cells.max()) * cells).astype(int)
        x, y = (
            low + (np.arange(pixels) + 0.5) * side / pixels
            for low, pixels, side in zip(self.bounds[:2], count, self.size, strict=True)
        )
        return x, y


def _square_around(task: Task, goals: np.ndarray) -> tuple[float, float, float, float]:
    """Bounds of a square around the model and its goal points."""
    marked = np.concatenate([task.goal_points(goal)[:, :2] for goal in goals])
    if isinstance(task.world, MujocoWorld):
        centre, reach = task.world.model.stat.center[:2], task.world.model.stat.extent
        marked = np.concatenate([marked, [centre - reach, centre + reach]])
    low, high = marked.min(0), marked.max(0)
    (x, y), half = (low + high) / 2, OPEN_MARGIN * float((high - low).max()) / 2
    return float(x) - half, float(y) - half, float(x) + half, float(y) + half
