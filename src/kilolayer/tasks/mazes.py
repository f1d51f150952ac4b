"""Mazes as text: walls, starts, goal cells, shortest paths.

`#` wall, `r` start, `g` goal cell, `.` free. Row i, column j lies at (i, j) times the cell size, so
rows run along x. Layouts from arXiv 2408.11052; medium, large and giant, with their tasks, from
OGBench 1.2 (arXiv 2410.20092); the spiral is our own.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.types import Array

TRAINING_LAYOUTS = {
    "u": "#####/#rgg#/###g#/#ggg#/#####",
    "u4": "#####/#ggg#/#r#g#/###g#/#g#g#/#ggg#/#####",
    "u5": "########/#gggggg#/#r####g#/######g#/#g####g#/#gggggg#/########",
    "big": "########/#rg##gg#/#gg#ggg#/##ggg###/#gg#ggg#/#g#gg#g#/#ggg#gg#/########",
    "hardest": "############/#rggg#ggggg#/#g##g#g#g#g#/#gggggg#ggg#/#g####g###g#/"
    "#gg#g#ggggg#/##g#g#g#g###/#gg#ggg#ggg#/############",
    # A block in the crossing obstructs the paths to both goals; the layout shows only the walls.
    "push": "######/#r.###/#...g#/##.###/##g###/######",
    "spiral": "###########/#rgggggggg#/#########g#/#ggggggg#g#/#g#####g#g#/#g#ggg#g#g#/"
    "#g#g###g#g#/#g#ggggg#g#/#g#######g#/#ggggggggg#/###########",
    # OGBench puts row i, column j of its maps at x = 4 j - 4, y = 4 i - 4. These are its maps
    # transposed, so with cells of 4 m a position here is OGBench's position plus (4, 4).
    "medium": "########/#rg#ggg#/#gggg#g#/###g#gg#/##gggg##/#gg#g#g#/#gg#ggg#/########",
    "large": "#########/#rgggg#g#/#g#g#ggg#/#g#g#####/#ggg#ggg#/###g###g#/#ggggggg#/"
    "#g###g###/#ggg#ggg#/#g#g#g#g#/#ggggg#g#/#########",
    "giant": "############/#rgggg#gggg#/###g#g#g##g#/#ggg#gggg#g#/#g########g#/"
    "#g#gggggggg#/#ggg#g#g#g##/#g###gg##gg#/#ggg##gg##g#/###g#g#g#gg#/##gg#ggg#g##/"
    "#gg##g###gg#/#g#gggggg#g#/#g#g###g##g#/#ggggg#gggg#/############",
}
# Layouts with the far goals only, for evaluation. A layout that is missing here is evaluated on all
# its goal cells.
EVALUATION_LAYOUTS = {
    "u": "#####/#r..#/###.#/#ggg#/#####",
    "u4": "#####/#...#/#r#.#/###g#/#g#g#/#ggg#/#####",
    "u5": "########/#......#/#r####.#/######g#/#g####g#/#gggggg#/########",
    "big": "########/#r.##gg#/#..#..g#/##...###/#..#...#/#.#g.#g#/#.gg#gg#/########",
    "spiral": "###########/#r........#/#########.#/#ggggggg#.#/#g#####g#.#/#g#ggg#g#.#/"
    "#g#g###g#.#/#g#ggggg#.#/#g#######.#/#gggg.....#/###########",
}
# Layouts that are evaluated on OGBench's tasks, transposed. Each task is a start cell and a goal
# cell.
EVALUATION_TASKS = {
    "medium": (((1, 1), (6, 6)), ((1, 6), (6, 1)), ((3, 5), (2, 4)), ((5, 6), (1, 6)),
               ((6, 2), (1, 1))),
    "large": (((1, 1), (10, 7)), ((4, 5), (1, 7)), ((4, 7), (10, 1)), ((8, 3), (4, 5)),
              ((1, 1), (4, 5))),
    "giant": (((1, 1), (14, 10)), ((14, 1), (1, 10)), ((14, 8), (1, 1)), ((3, 8), (12, 5)),
              ((9, 5), (8, 3))),
}  # fmt: skip
# Starts and goals of these layouts lie at most this far from their cell's centre, in cells.
TASK_NOISE = 0.25


@dataclass(frozen=True)
class Maze:
    """A layout with its cell size in m (or units, for points)."""

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

    @cached_property
    def tasks(self) -> np.ndarray:
        """Positions of the start and the goal of each evaluation task, `[tasks, 2, 2]`.

        Most layouts have no tasks: they are evaluated from the start to their goal cells. A layout
        with tasks has several starts, so in training its starts and goals are any two free cells.
        """
        cells = np.array(EVALUATION_TASKS.get(self.name, ()), int).reshape(-1, 2, 2)
        return cells * self.cell_size

    def goals(self, split: str) -> np.ndarray:
        """Centres of the goal cells of a split, `[cells, 2]`. With `tasks`, the evaluation split
        has the goal of each task, in the order of the tasks."""
        if len(self.tasks):
            return self.tasks[:, 1] if split == "evaluation" else self.free_cells
        evaluation = _grid(EVALUATION_LAYOUTS.get(self.name, TRAINING_LAYOUTS[self.name]))
        grid = evaluation if split == "evaluation" else self.grid
        return np.argwhere(grid == "g") * self.cell_size

    def sample_goal(self, key: Array, count: int, split: str, noise: float) -> Array:
        """Goal cells drawn uniformly, `[count, 2]`, plus uniform noise in +-noise cells."""
        cell_key, noise_key = jax.random.split(key)
        goals = jnp.asarray(self.goals(split), jnp.float32)
        chosen = goals[jax.random.randint(cell_key, (count,), 0, len(goals))]
        return self._with_noise(noise_key, chosen, noise)

    def _with_noise(self, key: Array, centres: Array, noise: float) -> Array:
        """`centres [count, 2]` plus uniform noise in +-noise cells."""
        spread = noise * self.cell_size
        return centres + jax.random.uniform(key, centres.shape, minval=-spread, maxval=spread)

    def sample_task_start(self, key: Array, goals: Array, split: str) -> Array:
        """Starts of environments with the commanded `goals [count, 2]`, in a layout with `tasks`.

        In evaluation: the start of a task with this goal cell, or of any task if there is none. In
        training: any free cell. Both get uniform noise in +-`TASK_NOISE` cells.
        """
        cell_key, noise_key = jax.random.split(key)
        if split == "evaluation":
            gaps = jnp.abs(goals[:, None] - jnp.asarray(self.tasks[:, 1]))
            matches = (gaps < 0.5 * self.cell_size).all(-1)
            possible, starts = matches | ~matches.any(-1, keepdims=True), self.tasks[:, 0]
        else:
            starts = self.free_cells
            possible = jnp.ones((len(goals), len(starts)), bool)
        weights = jnp.where(possible, 0.0, -jnp.inf)
        chosen = jax.random.categorical(cell_key, weights)
        return self._with_noise(noise_key, jnp.asarray(starts, jnp.float32)[chosen], TASK_NOISE)

    def task_numbers(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Number of the task, from 1 on, that leads from the cell of `starts [count, 2]` to the
        cell of `goals [count, 2]`, `[count]`; 0 if there is none."""
        routes = np.stack([self.cell_of(starts), self.cell_of(goals)], axis=-2)
        same = (routes[:, None] == self.cell_of(self.tasks)).all((-2, -1))
        return (same * np.arange(1, len(self.tasks) + 1)).max(-1, initial=0)

    @cached_property
    def free_cells(self) -> np.ndarray:
        """Centres of all cells without a wall, the start first, `[cells, 2]`."""
        start = np.argwhere(self.grid == "r")
        others = np.argwhere((self.grid != "r") & ~self.walls)
        return np.concatenate([start, others]) * self.cell_size

    def sample_free_cell(self, key: Array, count: int, split: str) -> Array:
        """Free cells drawn uniformly, `[count, 2]`; in evaluation all but the start."""
        cells = jnp.asarray(self.free_cells, jnp.float32)
        return cells[jax.random.randint(key, (count,), int(split == "evaluation"), len(cells))]

    def sample_start(self, key: Array, goals: Array, farthest: int) -> Array:
        """For each of the `goals [count, 2]`, another free cell at most `farthest` cells away."""
        cells = jnp.asarray(self.free_cells, jnp.float32)
        lengths = self.path_lengths_between(self.free_cells[:, None], self.free_cells[None])
        near = jnp.asarray((lengths > 0) & (lengths <= farthest))
        nearest = jnp.argmin(jnp.linalg.norm(goals[:, None] - cells[None], axis=-1), axis=-1)
        weights = jnp.where(near[nearest], 0.0, -jnp.inf)
        return cells[jax.random.categorical(key, weights)]

    def cell_of(self, positions: np.ndarray) -> np.ndarray:
        """Row and column of the cells at `positions [..., 2]`; the outermost cells for positions
        outside the maze."""
        cells = np.floor(np.asarray(positions) / self.cell_size + 0.5).astype(int)
        return np.clip(cells, 0, np.array(self.grid.shape) - 1)

    @cached_property
    def path_lengths(self) -> np.ndarray:
        """Cells along the shortest path between two cells, `[rows, columns, rows, columns]`.

        Steps go to the four neighbours; -1 where there is no path.
        """
        from scipy.sparse.csgraph import shortest_path  # loads slowly

        free = ~self.walls.ravel()
        cells = np.argwhere(np.ones_like(self.walls))
        neighbours = np.abs(cells[:, None] - cells).sum(-1) == 1
        lengths = shortest_path(neighbours & free & free[:, None], unweighted=True)
        # Without this, a wall would be 0 cells away from itself.
        lengths[np.isinf(lengths) | ~free] = -1
        return lengths.astype(int).reshape(self.grid.shape * 2)

    def path_lengths_between(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Shortest paths in cells from `starts [..., 2]` to `ends [..., 2]`; -1 for no path."""
        start, end = self.cell_of(starts), self.cell_of(ends)
        return self.path_lengths[start[..., 0], start[..., 1], end[..., 0], end[..., 1]]

    @cached_property
    def wall_rectangles(self) -> list[tuple[float, float, float, float]]:
        """The walls as few rectangles, each (x centre, y centre, x half size, y half size).

        Fewer, larger boxes mean fewer collision pairs for the engine.
        """
        uncovered = self.walls.copy()  # wall cells that no rectangle covers yet
        rows, columns = uncovered.shape
        rectangles = []
        for row, column in np.argwhere(self.walls):
            if not uncovered[row, column]:
                continue
            width = height = 1
            while column + width < columns and uncovered[row, column + width]:
                width += 1
            while row + height < rows and uncovered[row + height, column : column + width].all():
                height += 1
            uncovered[row : row + height, column : column + width] = False
            half = np.array([height, width]) * self.cell_size / 2
            centre = np.array([row, column]) * self.cell_size + half - self.cell_size / 2
            rectangles.append((*centre.tolist(), *half.tolist()))
        return rectangles


def _grid(layout: str) -> np.ndarray:
    return np.array([list(row) for row in layout.split("/")])
