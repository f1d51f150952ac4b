"""Mazes as text: walls, starts, goal cells, shortest paths.

`#` wall, `r` start, `g` goal cell, `.` free. Row i, column j lies at (i, j) times the cell size, so
rows run along x. Layouts from arXiv 2408.11052; the spiral is our own.
"""

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from kilolayer.types import Array

TRAINING_LAYOUTS = {
    "u": "#####/#rgg#/###g#/#ggg#/#####",
    "u4": "#####/#ggg#/#r#g#/###g#/#g#g#/#ggg#/#####",
    "u5": "########/#gggggg#/#r####g#/######g#/#g####g#/#gggggg#/########",
    "big": "########/#rg##gg#/#gg#ggg#/##ggg###/#gg#ggg#/#g#gg#g#/#ggg#gg#/########",
    "hardest": "############/#rggg#ggggg#/#g##g#g#g#g#/#gggggg#ggg#/#g####g###g#/"
    "#gg#g#ggggg#/##g#g#g#g###/#gg#ggg#ggg#/############",
    # One block in the crossing bars both goals; the layout shows the walls alone.
    "push": "######/#r.###/#...g#/##.###/##g###/######",
    "spiral": "###########/#rgggggggg#/#########g#/#ggggggg#g#/#g#####g#g#/#g#ggg#g#g#/"
    "#g#g###g#g#/#g#ggggg#g#/#g#######g#/#ggggggggg#/###########",
}
# The far goals; a layout that is missing here is evaluated on all its goal cells.
EVALUATION_LAYOUTS = {
    "u": "#####/#r..#/###.#/#ggg#/#####",
    "u4": "#####/#...#/#r#.#/###g#/#g#g#/#ggg#/#####",
    "u5": "########/#......#/#r####.#/######g#/#g####g#/#gggggg#/########",
    "big": "########/#r.##gg#/#..#..g#/##...###/#..#...#/#.#g.#g#/#.gg#gg#/########",
    "spiral": "###########/#r........#/#########.#/#ggggggg#.#/#g#####g#.#/#g#ggg#g#.#/"
    "#g#g###g#.#/#g#ggggg#.#/#g#######.#/#gggg.....#/###########",
}


@dataclass(frozen=True)
class Maze:
    """A layout with its cell size in metres (or units, for points)."""

    name: str
    cell_size: float

    @cached_property
    def grid(self) -> np.ndarray:
        """Characters of the training layout, `[rows, columns]`."""
        return _grid(TRAINING_LAYOUTS[self.name])

    @cached_property
    def walls(self) -> np.ndarray:
        """Booleans `[rows, columns]`."""
        return self.grid == "#"

    @cached_property
    def start(self) -> np.ndarray:
        """Position of the start, `[2]`."""
        return np.argwhere(self.grid == "r")[0] * self.cell_size

    def goals(self, split: str) -> np.ndarray:
        """Centres of the goal cells of a split, `[cells, 2]`."""
        evaluation = _grid(EVALUATION_LAYOUTS.get(self.name, TRAINING_LAYOUTS[self.name]))
        grid = evaluation if split == "evaluation" else self.grid
        return np.argwhere(grid == "g") * self.cell_size

    def sample_goal(self, key: Array, count: int, split: str, noise: float) -> Array:
        """Goal cells drawn uniformly, `[count, 2]`, plus uniform noise in +-noise cells."""
        cell_key, noise_key = jax.random.split(key)
        goals = jax.numpy.asarray(self.goals(split), jax.numpy.float32)
        chosen = goals[jax.random.randint(cell_key, (count,), 0, len(goals))]
        spread = noise * self.cell_size
        return chosen + jax.random.uniform(noise_key, (count, 2), minval=-spread, maxval=spread)

    @cached_property
    def free_cells(self) -> np.ndarray:
        """Centres of all cells without a wall, the start first, `[cells, 2]`."""
        start = np.argwhere(self.grid == "r")
        others = np.argwhere((self.grid != "r") & ~self.walls)
        return np.concatenate([start, others]) * self.cell_size

    def sample_free_cell(self, key: Array, count: int, split: str) -> Array:
        """Any cell in training, any but the start in evaluation, uniformly, `[count, 2]`."""
        cells = jax.numpy.asarray(self.free_cells, jax.numpy.float32)
        return cells[jax.random.randint(key, (count,), int(split == "evaluation"), len(cells))]

    def sample_start(self, key: Array, goals: Array, farthest: int) -> Array:
        """A free cell at most `farthest` cells from each of the `goals [count, 2]` and not it."""
        cells = jax.numpy.asarray(self.free_cells, jax.numpy.float32)
        lengths = self.path_lengths_between(self.free_cells[:, None], self.free_cells[None])
        near = jax.numpy.asarray((lengths > 0) & (lengths <= farthest))
        nearest = jax.numpy.argmin(
            jax.numpy.linalg.norm(goals[:, None] - cells[None], axis=-1), axis=-1
        )
        weights = jax.numpy.where(near[nearest], 0.0, -jax.numpy.inf)
        return cells[jax.random.categorical(key, weights)]

    def cell_of(self, positions: np.ndarray) -> np.ndarray:
        """Row and column of the cells that hold `positions [..., 2]`, the outermost if outside."""
        cells = np.floor(np.asarray(positions) / self.cell_size + 0.5).astype(int)
        return np.clip(cells, 0, np.array(self.grid.shape) - 1)

    @cached_property
    def path_lengths(self) -> np.ndarray:
        """Cells along the shortest path between two cells, `[rows, columns, rows, columns]`.

        Steps go to the four neighbours; -1 where there is no path.
        """
        lengths = np.full(self.grid.shape * 2, -1)
        for row, column in np.argwhere(~self.walls):
            lengths[row, column] = self._path_lengths_from(row, column)
        return lengths

    def _path_lengths_from(self, row: int, column: int) -> np.ndarray:
        lengths = np.full(self.grid.shape, -1)
        lengths[row, column] = 0
        queue = deque([(row, column)])
        while queue:
            row, column = queue.popleft()
            for cell in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if not self.walls[cell] and lengths[cell] < 0:
                    lengths[cell] = lengths[row, column] + 1
                    queue.append(cell)
        return lengths

    def path_lengths_between(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Shortest paths in cells from `starts [..., 2]` to `ends [..., 2]`; -1 for no path."""
        start, end = self.cell_of(starts), self.cell_of(ends)
        return self.path_lengths[start[..., 0], start[..., 1], end[..., 0], end[..., 1]]

    @cached_property
    def wall_rectangles(self) -> list[tuple[float, float, float, float]]:
        """The walls as few rectangles, each (x centre, y centre, x half size, y half size).

        Fewer, larger boxes mean fewer collision pairs for the engine.
        """
        left = self.walls.copy()  # wall cells that no rectangle covers yet
        rows, columns = left.shape
        rectangles = []
        for row, column in np.argwhere(self.walls):
            if not left[row, column]:
                continue
            width = height = 1
            while column + width < columns and left[row, column + width]:
                width += 1
            while row + height < rows and left[row + height, column : column + width].all():
                height += 1
            left[row : row + height, column : column + width] = False
            half = np.array([height, width]) * self.cell_size / 2
            centre = np.array([row, column]) * self.cell_size + half - self.cell_size / 2
            rectangles.append((*centre.tolist(), *half.tolist()))
        return rectangles


def _grid(layout: str) -> np.ndarray:
    return np.array([list(row) for row in layout.split("/")])
