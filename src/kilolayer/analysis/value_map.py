"""The critic's value over the plane, and its correlation with path length and distance."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from kilolayer.agents.base import ActingAgent
from kilolayer.analysis.load import Run
from kilolayer.errors import UserError
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task, goals_are_positions
from kilolayer.tasks.mazes import Maze
from kilolayer.types import Array

# A map of open ground extends to this multiple of the goal's distance from the origin.
OPEN_MARGIN = 1.25
# Correlations with a smaller difference are treated as equal.
MIN_CORRELATION_GAP = 0.05


@dataclass(frozen=True)
class ValueMap:
    """Energies of the critic for one goal, by the position of the body.

    goal `[goal]`, x and y first; x `[columns]`, y `[rows]`: positions in the goal's unit; value
    `[columns, rows]`, NaN in walls.
    """

    goal: np.ndarray
    x: np.ndarray
    y: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class ValueCorrelation:
    """Spearman rank correlations, in -1 to 1, of the value with the negative distance to the goal.

    path: with the length of the shortest path around the walls, None on open ground.
    straight_line: with the Euclidean distance. positions: number of ranked positions.
    """

    path: float | None
    straight_line: float
    positions: int

    @property
    def conclusion(self) -> str:
        """The interpretation of the two correlations, as the end of a sentence."""
        if self.path is None:
            return "the task has no walls"
        if not np.isfinite([self.path, self.straight_line]).all():
            return "the value is constant, so it has no correlation"
        if max(self.path, self.straight_line) < 0.5:
            return "the value follows neither closely"
        if abs(self.path - self.straight_line) < MIN_CORRELATION_GAP:
            return "for this goal the two distances cannot be distinguished"
        nearer = "shortest path" if self.path > self.straight_line else "straight line"
        return f"the value follows the {nearer}"


def require_position_goals(task: Task) -> None:
    """Raises UserError unless goals are positions x, y and observations begin with them."""
    first = [coordinate.name for coordinate in task.observation[:2]]
    if not goals_are_positions(task) or first != ["x", "y"]:
        raise UserError(f"task {task.name} has no value map: its goals are not positions x, y.")


class ValueMapper:
    """Maps of a run's critic for any goal, compiled once for each size; raises UserError if the
    task's goals are not positions or the run has no checkpoint."""

    def __init__(self, run: Run):
        require_position_goals(run.task)
        self._task, self._agent_state = run.task, run.agent_state
        self._physics = build_physics(run.task.world, 1)
        self._policy_value = jax.jit(partial(_policy_value, run.agent))

    def __call__(self, goal: Any, x: np.ndarray, y: np.ndarray) -> ValueMap:
        """The critic's value of the policy's action at each position of `x [columns]`, `y [rows]`.

        The body has the pose of one reset, moved to the position. goal `[goal]` in the goal's unit.
        """
        task, goal = self._task, np.asarray(goal, np.float32)
        positions = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        physics = self._physics.init(
            *task.reset(jax.random.key(0), jnp.asarray(goal[None]), "evaluation")
        )
        pose = jnp.repeat(task.observe(physics), len(positions), axis=0)
        observation = pose.at[:, :2].set(positions)
        goals = jnp.broadcast_to(goal, (len(positions), len(goal)))
        value = self._policy_value(self._agent_state, observation, goals)
        grid = np.asarray(value, np.float64).reshape(len(x), len(y))
        if task.maze is not None:
            grid = np.where(in_walls(task.maze, x, y), np.nan, grid)
        return ValueMap(goal, x, y, grid)


def maps_of_goals(run: Run, goals: Any, resolution: int) -> list[ValueMap]:
    """One map for each of the goals `[goals, goal]`, in the goal's unit; see `ValueMapper`.

    resolution: points along the longer side, rounded up to a whole number per cell of a maze.
    Raises UserError if the task's goals are not positions or the run has no checkpoint.
    """
    mapper, task, goals = ValueMapper(run), run.task, np.asarray(goals, np.float32)
    if goals.ndim != 2 or goals.shape[1] != task.goal.dim or resolution < 2:
        raise UserError(
            f"value maps take goals [goals, {task.goal.dim}] and a resolution of at least 2, "
            f"not {list(goals.shape)} and {resolution}."
        )
    return [mapper(goal, *map_axes(task.maze, goal[:2], resolution)) for goal in goals]


def _policy_value(agent: ActingAgent, state: Any, observation: Array, goal: Array) -> Array:
    action = agent.act(state, observation, goal, jax.random.key(0), deterministic=True)
    return agent.rate(state, observation, action, goal)


def map_axes(maze: Maze | None, goal: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions along x and along y: centres of the pixels of a map."""
    if maze is None:
        half = OPEN_MARGIN * max(float(np.linalg.norm(goal)), 1.0)
        pixel = 2 * half / resolution
        axis = (np.arange(resolution) + 0.5) * pixel - half
        return axis, axis
    per_cell = -(-resolution // max(maze.walls.shape))
    x, y = (
        ((np.arange(cells * per_cell) + 0.5) / per_cell - 0.5) * maze.cell_size
        for cells in maze.walls.shape
    )
    return x, y


def in_walls(maze: Maze, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Booleans `[columns, rows]`: whether each position of the grid lies in a wall."""
    cells = maze.cell_of(np.stack(np.meshgrid(x, y, indexing="ij"), -1))
    return maze.walls[cells[..., 0], cells[..., 1]]


def value_correlation(values: ValueMap, maze: Maze | None) -> ValueCorrelation:
    """Rank correlation of the value with path length and with Euclidean distance to the goal.

    In a maze the positions are the free cells from which a path leads to the goal, each with the
    mean value of its points. On open ground they are all points of the map.
    """
    if maze is None:
        positions = np.stack(np.meshgrid(values.x, values.y, indexing="ij"), -1)
        distance = np.linalg.norm(positions - values.goal[:2], axis=-1)
        return ValueCorrelation(
            None, spearman(values.value.ravel(), -distance.ravel()), distance.size
        )
    goal = values.goal[:2]
    row, column = maze.cell_of(goal)
    lengths = maze.path_lengths[row, column]
    cells = np.argwhere(lengths >= 0)
    if len(cells) < 3:
        raise UserError(f"the goal {values.goal.tolist()} lies in a wall of the maze {maze.name}.")
    rows = maze.cell_of(np.stack([values.x, 0 * values.x], -1))[:, 0]
    columns = maze.cell_of(np.stack([0 * values.y, values.y], -1))[:, 1]
    value = np.array([values.value[np.ix_(rows == r, columns == c)].mean() for r, c in cells])
    line = np.linalg.norm(cells * maze.cell_size - goal, axis=-1)
    path = lengths[cells[:, 0], cells[:, 1]]
    return ValueCorrelation(spearman(value, -path), spearman(value, -line), len(cells))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two `[positions]`; ties share their mean rank.

    NaN if either is constant.
    """
    ranks = [stats.rankdata(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")


def representative_goals(task: Task) -> np.ndarray:
    """Three goals for value maps, `[3, goal]`.

    In a maze: from near to far by the path from the start. On open ground: commanded goals with
    large distances between them."""
    require_position_goals(task)
    split = "training" if task.maze is not None else "evaluation"
    goals = np.asarray(task.sample_goal(jax.random.key(0), 256, split))
    if task.maze is not None:
        lengths = task.maze.path_lengths_between(task.maze.start, goals[:, :2])
        ordered = goals[np.argsort(lengths, kind="stable")]
        return ordered[np.linspace(0, len(ordered) - 1, 3).round().astype(int)]
    chosen = [goals[0]]
    for _ in range(2):
        gaps = np.linalg.norm(goals[:, None] - np.array(chosen), axis=-1).min(1)
        chosen.append(goals[gaps.argmax()])
    return np.array(chosen)
