"""The squares that instructions refer to: rows from the top, columns from the left of the picture.

In a maze the squares are its cells. On a table the goal region is divided into five by five
squares, and its pictures show the lines.
"""

from dataclasses import dataclass
from functools import cache

import jax
import numpy as np

from kilolayer.errors import UserError
from kilolayer.tasks.base import Task

Cell = tuple[int, int]
"""Row and column, both counted from one."""
Place = tuple[float, float]

TABLE_SQUARES = 5
TABLE_MARGIN = 0.375  # margin around a table's goal region, in units of the region's longer side
MIN_GOALS = 6  # a maze with fewer goal cells gains nothing from instructions
FAMILIES = {"cube x": "cube", "end effector x": "hand", "puck x": "puck"}
ROUNDING = 1e-6  # squares; margin for rounding errors, since places are sums of floats


@dataclass(frozen=True)
class Board:
    """The grid of squares. Places are x, y in the goal's unit, x to the right and y up.

    family: selects the vocabulary. first: the centre of row one, column one. step: a square's width
    and height. free: squares without a wall. goals: squares that contain goals. scattered: whether
    goals lie anywhere in a square instead of only at its centre. rest: the goal's coordinates after
    x and y. corner: the picture's lower left corner. side: length that a side of the picture shows.
    """

    family: str
    rows: int
    columns: int
    first: Place
    step: Place
    free: frozenset[Cell]
    goals: tuple[Cell, ...]
    scattered: bool
    rest: tuple[float, ...]
    corner: Place
    side: float

    def centre(self, cell: Cell) -> Place:
        row, column = cell
        return self.moved(self.first, column - 1, 1 - row)

    def moved(self, place: Place, right: float, up: float) -> Place:
        """The place `right` and `up` squares away from another place."""
        return place[0] + right * self.step[0], place[1] + up * self.step[1]

    def squares_between(self, start: Place, end: Place) -> Place:
        """Distance from one place to another in squares, to the right and up."""
        return (end[0] - start[0]) / self.step[0], (end[1] - start[1]) / self.step[1]

    def cell_of(self, place: Place) -> Cell:
        """The square of a place; its row or column may be outside the board."""
        right, up = self.squares_between(self.first, place)
        return 1 - int(np.floor(up + 0.5)), 1 + int(np.floor(right + 0.5))

    def draw(self, cell: Cell, generator: np.random.Generator) -> Place:
        """Draw a possible goal in this square, x and y."""
        if not self.scattered:
            return self.centre(cell)
        right, up = generator.uniform(-0.5 + ROUNDING, 0.5 - ROUNDING, 2)
        return self.moved(self.centre(cell), float(right), float(up))

    def goal(self, place: Place) -> tuple[float, ...]:
        """The task's full goal at this place."""
        return (*place, *self.rest)


def require_instructions(task: Task) -> None:
    """Raise UserError for a task that has no instructions."""
    board_of(task)


@cache
def board_of(task: Task) -> Board:
    """The board of a task; raises UserError for a task that has no instructions."""
    if task.maze is not None and len(task.maze.goals("training")) >= MIN_GOALS:
        return _maze_board(task)
    if task.goal_box is not None and task.goal.coordinates[0].name in FAMILIES:
        return _table_board(task)
    raise UserError(
        f"task {task.name} has no instructions: only the mazes with at least {MIN_GOALS} goal "
        "cells (point, ant, humanoid), arm_reach, arm_push_*, arm_binpick_* and pusher_* have."
    )


def _maze_board(task: Task) -> Board:
    """Rows and columns count the cells inside the outer wall; the picture also shows the wall."""
    maze = task.maze
    assert maze is not None
    size, (across, up) = maze.cell_size, maze.walls.shape

    def cell(indices: np.ndarray) -> Cell:
        return up - 1 - int(indices[1]), int(indices[0])

    goals = sorted(cell(place) for place in np.rint(maze.goals("training") / size))
    rest = np.asarray(task.sample_goal(jax.random.key(0), 1, "training"))[0, 2:]
    # Pad by whole cells, so that cells of eight pixels stay aligned to multiples of eight pixels.
    longest = max(across, up)
    left, below = (longest - across) // 2, (longest - up) // 2
    return Board(
        family="maze",
        rows=up - 2,
        columns=across - 2,
        first=(size, (up - 2) * size),
        step=(size, size),
        free=frozenset(cell(indices) for indices in np.argwhere(~maze.walls)),
        goals=tuple(goals),
        scattered=False,
        rest=tuple(rest.tolist()),
        corner=(-(left + 0.5) * size, -(below + 0.5) * size),
        side=longest * size,
    )


def _table_board(task: Task) -> Board:
    """Goal heights are those of the middle of the region."""
    assert task.goal_box is not None
    low, high = np.array(task.goal_box)
    middle, span = (low + high) / 2, high - low
    step = span[:2] / TABLE_SQUARES
    side = (1 + 2 * TABLE_MARGIN) * span[:2].max()
    cells = [(r, c) for r in range(1, TABLE_SQUARES + 1) for c in range(1, TABLE_SQUARES + 1)]
    return Board(
        family=FAMILIES[task.goal.coordinates[0].name],
        rows=TABLE_SQUARES,
        columns=TABLE_SQUARES,
        first=(float(low[0] + step[0] / 2), float(high[1] - step[1] / 2)),
        step=(float(step[0]), float(step[1])),
        free=frozenset(cells),
        goals=tuple(cells),
        scattered=True,
        rest=tuple(middle[2:].tolist()),
        corner=(float(middle[0] - side / 2), float(middle[1] - side / 2)),
        side=float(side),
    )
