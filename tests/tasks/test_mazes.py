"""Mazes: paths by hand, goal cells, and the boxes that become walls."""

import jax
import numpy as np
import pytest

from kilolayer.tasks.mazes import TRAINING_LAYOUTS, Maze

LAYOUTS = sorted(TRAINING_LAYOUTS)


def lengths_from_start(maze: Maze) -> np.ndarray:
    row, column = maze.cell_of(maze.start)
    return maze.path_lengths[row, column]


def cells(positions: np.ndarray, size: float) -> set[tuple[int, int]]:
    return {tuple(cell) for cell in np.rint(np.asarray(positions) / size).astype(int).tolist()}


def test_path_lengths_of_u_match_hand_computation():
    #   #####
    #   #rgg#   0 1 2
    #   ###g#       3
    #   #ggg#   6 5 4
    #   #####
    expected = np.full((5, 5), -1)
    expected[1, 1:4], expected[2, 3], expected[3, 1:4] = [0, 1, 2], 3, [6, 5, 4]
    np.testing.assert_array_equal(lengths_from_start(Maze("u", 4.0)), expected)


def test_path_lengths_of_u4_match_hand_computation():
    #   #####
    #   #ggg#   1 2 3
    #   #r#g#   0 # 4
    #   ###g#   # # 5
    #   #g#g#  10 # 6
    #   #ggg#   9 8 7
    expected = np.full((7, 5), -1)
    expected[1, 1:4] = [1, 2, 3]
    expected[2, [1, 3]], expected[3, 3], expected[4, [1, 3]] = [0, 4], 5, [10, 6]
    expected[5, 1:4] = [9, 8, 7]
    np.testing.assert_array_equal(lengths_from_start(Maze("u4", 4.0)), expected)


def test_path_length_to_a_position_is_that_to_its_cell():
    maze = Maze("u", 4.0)
    positions = np.array([[4.0, 4.0], [5.9, 4.0], [12.0, 5.5], [0.0, 0.0], [400.0, 4.0]])
    lengths = maze.path_lengths_between(maze.start, positions)
    np.testing.assert_array_equal(lengths, [0, 0, 6, -1, -1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_path_lengths_are_symmetric(layout):
    lengths = Maze(layout, 1.0).path_lengths
    np.testing.assert_array_equal(lengths, lengths.transpose(2, 3, 0, 1))
    assert Maze("u", 4.0).path_lengths_between([12, 4], [4, 12]) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_every_goal_cell_is_free_and_reachable(layout, split):
    maze = Maze(layout, 2.0)
    goals = maze.goals(split)
    assert len(goals) > 0
    lengths = maze.path_lengths_between(maze.start, goals)
    # Only where there are tasks, which start elsewhere too, can the start be a goal.
    assert (lengths >= 0 if len(maze.tasks) else lengths > 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_maze_is_closed_and_has_one_start(layout):
    maze = Maze(layout, 1.0)
    assert (maze.grid == "r").sum() == 1
    for border in (maze.walls[0], maze.walls[-1], maze.walls[:, 0], maze.walls[:, -1]):
        assert border.all()
    np.testing.assert_array_equal(maze.grid[tuple(maze.start.astype(int))], "r")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluation_goals_are_training_goals(layout):
    maze = Maze(layout, 1.0)
    training, evaluation = (cells(maze.goals(split), 1.0) for split in ("training", "evaluation"))
    assert evaluation <= training


@pytest.mark.parametrize("layout", ["u", "u4", "big", "spiral"])
def test_evaluation_goals_are_the_far_ones(layout):
    maze = Maze(layout, 4.0)
    training, evaluation = (cells(maze.goals(split), 4.0) for split in ("training", "evaluation"))
    near = training - evaluation
    assert near
    lengths = lengths_from_start(maze)
    assert np.mean([lengths[c] for c in near]) < np.mean([lengths[c] for c in evaluation])
    if layout != "big":
        assert max(lengths[c] for c in near) < min(lengths[c] for c in evaluation)


def test_evaluation_goals_of_u_are_its_last_row():
    assert cells(Maze("u", 4.0).goals("evaluation"), 4.0) == {(3, 1), (3, 2), (3, 3)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wall_rectangles_cover_the_walls_exactly_once(layout):
    size, fine = 4.0, 4  # sample points per cell and axis
    maze = Maze(layout, size)
    rows, columns = maze.walls.shape
    x = (np.arange(rows * fine) + 0.5) * size / fine - size / 2
    y = (np.arange(columns * fine) + 0.5) * size / fine - size / 2
    cover = np.zeros((len(x), len(y)), int)
    for centre_x, centre_y, half_x, half_y in maze.wall_rectangles:
        inside_x, inside_y = np.abs(x - centre_x) < half_x, np.abs(y - centre_y) < half_y
        cover += inside_x[:, None] & inside_y[None]
    np.testing.assert_array_equal(cover, maze.walls.repeat(fine, 0).repeat(fine, 1))
    area = sum(4 * half_x * half_y for *_, half_x, half_y in maze.wall_rectangles)
    assert area == pytest.approx(maze.walls.sum() * size**2)
    assert len(maze.wall_rectangles) < maze.walls.sum() / 2


@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_goals_are_drawn_uniformly_from_the_cells_of_the_split(split):
    maze = Maze("u", 4.0)
    goals = np.asarray(maze.sample_goal(jax.random.key(0), 3000, split, 0.25))
    places, counts = np.unique(np.rint(goals / 4.0), axis=0, return_counts=True)
    assert cells(places * 4.0, 4.0) == cells(maze.goals(split), 4.0)
    assert counts.min() > 0.8 * 3000 / len(counts)
    offsets = goals - np.rint(goals / 4.0) * 4.0
    assert 0.95 < np.abs(offsets).max() <= 1.0


def test_goals_without_noise_are_cell_centres():
    maze = Maze("u4", 4.0)
    goals = np.asarray(maze.sample_goal(jax.random.key(0), 50, "evaluation", 0.0))
    np.testing.assert_array_equal(goals % 4.0, np.zeros((50, 2)))
