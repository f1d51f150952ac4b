"""Value maps and their rank correlations with path length and distance."""

import numpy as np
import pytest

from kilolayer.analysis.value_map import (
    ValueCorrelation,
    ValueMap,
    in_walls,
    map_axes,
    maps_of_goals,
    representative_goals,
    spearman,
    value_correlation,
)
from kilolayer.errors import UserError
from kilolayer.tasks.base import goals_are_positions
from kilolayer.tasks.mazes import Maze
from kilolayer.tasks.registry import TASKS, make_task

MAZE = Maze("u", 4.0)
PLACES = [name for name in TASKS if goals_are_positions(make_task(name))]
# The far end of the U: adjacent to the start in a straight line, six cells along the corridor.
GOAL = np.array([12.0, 4.0])


def map_of(function) -> ValueMap:
    """A map of `function(x, y)` over the U maze, walls masked."""
    x, y = map_axes(MAZE, GOAL, 20)
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    return ValueMap(GOAL, x, y, np.where(in_walls(MAZE, x, y), np.nan, function(grid_x, grid_y)))


def test_value_map_along_paths_is_recognised():
    lengths = MAZE.path_lengths[3, 1]

    def walls(x, y):
        return -lengths[np.rint(x / 4).astype(int), np.rint(y / 4).astype(int)]

    correlation = value_correlation(map_of(walls), MAZE)
    assert correlation.path == pytest.approx(1.0)
    assert correlation.straight_line < 0.9
    assert correlation.positions == 7
    assert correlation.conclusion == "the value follows the shortest path"


def test_value_map_along_straight_line_is_recognised():
    correlation = value_correlation(map_of(lambda x, y: -np.hypot(x - GOAL[0], y - GOAL[1])), MAZE)
    assert correlation.straight_line > 0.95
    assert correlation.path < correlation.straight_line - 0.05
    assert correlation.conclusion == "the value follows the straight line"


def test_open_ground_has_only_straight_line_correlation():
    x, y = map_axes(None, np.array([10.0, 0.0]), 10)
    value = -np.hypot(*np.meshgrid(x - 10, y, indexing="ij"))
    correlation = value_correlation(ValueMap(np.array([10.0, 0.0]), x, y, value), None)
    assert correlation.path is None
    assert correlation.straight_line == pytest.approx(1.0)
    assert "no walls" in correlation.conclusion


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (ValueCorrelation(0.9, 0.88, 9), "cannot be distinguished"),
        (ValueCorrelation(0.3, -0.2, 9), "neither closely"),
        (ValueCorrelation(float("nan"), float("nan"), 9), "the value is constant"),
    ],
)
def test_undecided_conclusions(correlation, words):
    assert words in correlation.conclusion


def test_goal_in_wall_is_refused():
    values = map_of(lambda x, y: x)
    inside = ValueMap(np.array([0.0, 0.0]), values.x, values.y, values.value)
    with pytest.raises(UserError, match="in a wall"):
        value_correlation(inside, MAZE)


def test_spearman_matches_hand_computation():
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 15])) == pytest.approx(0.5)
    assert spearman(np.array([1.0, 2.0, 9.0]), np.array([-1, -4, -9])) == pytest.approx(-1.0)
    # Ties share the mean rank: ranks 1.5, 1.5, 3 against 1, 2, 3.
    assert spearman(np.array([5, 5, 7]), np.array([1, 2, 3])) == pytest.approx(np.sqrt(0.75))
    assert np.isnan(spearman(np.array([1, 1, 1]), np.array([1, 2, 3])))


def test_value_map_has_maze_shape_and_wall_mask(tiny_run):
    values = maps_of_goals(tiny_run, [[3.0, 1.0]], resolution=12)[0]
    # Five cells per side: three points per cell are the smallest number with twelve points.
    assert values.value.shape == (15, 15)
    assert values.x[0] == pytest.approx(-1 / 3)
    masked = np.kron(tiny_run.task.maze.walls, np.ones((3, 3), bool))
    np.testing.assert_array_equal(np.isnan(values.value), masked)
    assert np.nanstd(values.value) > 0


def test_value_map_evaluates_the_policy_action(tiny_run):
    goal = np.array([3.0, 1.0], np.float32)
    values = maps_of_goals(tiny_run, [goal], resolution=5)[0]
    observation = np.array([[1.0, 2.0, 0.0, 0.0]], np.float32)
    action = tiny_run.policy(observation, goal[None])
    energy = tiny_run.agent.rate(tiny_run.agent_state, observation, action, goal[None])
    assert values.value[1, 2] == pytest.approx(float(energy[0]), rel=1e-4)


@pytest.mark.parametrize(("goal", "resolution"), [([1.0], 8), ([1.0, 2.0], 1)])
def test_value_map_refuses_invalid_input(tiny_run, goal, resolution):
    with pytest.raises(UserError, match="value map"):
        maps_of_goals(tiny_run, [goal], resolution)


@pytest.mark.parametrize("name", PLACES)
def test_representative_goals_are_three_goals_of_the_task(name):
    task = make_task(name)
    goals = representative_goals(task)
    assert goals.shape == (3, task.goal.dim)
    assert len(np.unique(goals.round(3), axis=0)) == 3
    if task.maze is not None:
        lengths = task.maze.path_lengths_between(task.maze.start, goals[:, :2])
        farthest = task.maze.path_lengths_between(task.maze.start, task.maze.goals("training"))
        assert lengths.tolist() == sorted(lengths)
        assert lengths[-1] == farthest.max()


def test_value_map_needs_position_goals():
    with pytest.raises(UserError, match="task reacher has no value map"):
        representative_goals(make_task("reacher"))
