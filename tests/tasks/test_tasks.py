"""Properties of every registered task, with its physics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import is_success, parse_goal
from kilolayer.tasks.registry import TASKS, make_task

NAMES = sorted(TASKS)
MAZES = [name for name in NAMES if "maze" in name]
ENVS = 6
# Numbers of the observation, the action and the goal, as the benchmark states them.
DIMENSIONS = {
    "point": (4, 2, 2),
    "reacher": (10, 2, 3),
    "pusher": (20, 7, 3),
    "half_cheetah": (18, 6, 1),
    "ant": (29, 8, 2),
    "gym_ant": (29, 8, 2),
    "ant_ball": (31, 8, 2),
    "ant_push": (31, 8, 2),
    "humanoid": (246, 17, 3),
    "arm_reach": (13, 4, 3),
    "arm_grasp": (23, 5, 7),
    "arm_push": (17, 5, 3),
    "arm_binpick": (17, 5, 3),
}
# Where the benchmark states no noise or a single goal.
STILL_STARTS = ("humanoid", "arm_reach")
SINGLE_GOALS = ("half_cheetah",)


def dimensions(name: str) -> tuple[int, int, int]:
    stem = max((stem for stem in DIMENSIONS if name.startswith(stem)), key=len)
    return DIMENSIONS[stem]


def starts(task, seed: int = 0, split="evaluation"):
    key = jax.random.key(seed)
    goal = task.sample_goal(key, ENVS, split)
    return goal, *task.reset(key, goal, split)


@pytest.fixture(scope="module", params=NAMES)
def started_task(request):
    """A task, its commanded goals and the first state of its environments."""
    task = make_task(request.param)
    goal, qpos, qvel = starts(task)
    return request.param, task, goal, build_physics(task.world, ENVS).init(qpos, qvel)


def test_shapes_and_names(started_task):
    name, task, _, state = started_task
    observation, action, goal = dimensions(name)
    assert task.name == name
    assert (len(task.observation), task.action_dim, task.goal.dim) == (observation, action, goal)
    assert task.observe(state).shape == (ENVS, observation)
    assert np.isfinite(task.observe(state)).all()
    assert task.achieved_goal(state).shape == (ENVS, goal)
    assert task.terminated(state).shape == (ENVS,)
    assert task.terminated(state).dtype == jnp.bool_
    assert not task.terminated(state).any()
    assert len({coordinate.name for coordinate in task.observation}) == len(task.observation)
    assert all(coordinate.unit for coordinate in (*task.observation, *task.goal.coordinates))
    assert 0 < (task.goal.hard_radius or 1e-9) < task.goal.radius < task.goal.easy_radius


def test_goals_have_the_right_shape_and_are_not_reached_at_the_start(started_task):
    name, task, _, state = started_task
    for split in task.splits:
        goal = task.sample_goal(jax.random.key(1), ENVS, split)
        assert goal.shape == (ENVS, task.goal.dim)
        if name not in SINGLE_GOALS:
            assert len(np.unique(np.asarray(goal), axis=0)) > 1
        current = task.current_goal(state, goal)
        assert current.shape == goal.shape
        assert not is_success(task, task.achieved_goal(state), current).all()
    assert task.splits[0] == "evaluation"


def test_goal_is_marked_in_the_picture(started_task):
    _, task, goal, _ = started_task
    points = task.goal_points(np.asarray(goal[0]))
    assert points.ndim == 2
    assert points.shape[1] == 3


@pytest.mark.parametrize("name", NAMES)
def test_starts_differ_and_depend_on_the_key(name):
    task = make_task(name)
    first, again, other = (starts(task, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    if not name.startswith(STILL_STARTS):
        assert not np.array_equal(first, other)
        assert len(np.unique(np.asarray(first), axis=0)) == ENVS


@pytest.mark.parametrize("name", [name for name in MAZES if not name.endswith("stitching")])
def test_goals_lie_in_the_goal_cells_of_their_split(name):
    task = make_task(name)
    size = task.maze.cell_size
    for split in task.splits:
        goals = np.asarray(task.sample_goal(jax.random.key(2), 200, split))
        cells = {tuple(cell) for cell in np.rint(goals[:, :2] / size).astype(int).tolist()}
        centres = np.rint(task.maze.goals(split) / size).astype(int).tolist()
        assert cells <= {tuple(cell) for cell in centres}


def test_stitching_trains_on_short_paths_and_evaluates_on_all():
    task = make_task("ant_u4_maze_stitching")
    maze, lengths_by_split = task.maze, {}
    for split in ("training", "evaluation"):
        goal = task.sample_goal(jax.random.key(0), 2000, split)
        qpos, _ = task.reset(jax.random.key(1), goal, split)
        lengths = maze.path_lengths_between(np.asarray(qpos[:, :2]), np.asarray(goal))
        lengths_by_split[split] = np.bincount(lengths, minlength=11)
    # Eleven cells in a row: 10 + 9 + 8 ways of one, two and three cells, and back.
    assert lengths_by_split["training"][0] == lengths_by_split["training"][4:].sum() == 0
    assert (lengths_by_split["training"][1:4] > 400).all()
    assert lengths_by_split["evaluation"][0] == 0
    assert (lengths_by_split["evaluation"][1:] > 120).all()


@pytest.mark.parametrize("name", MAZES)
def test_mazes_separate_training_and_evaluation_goals(name):
    assert make_task(name).splits == ("evaluation", "training")


@pytest.mark.parametrize("name", ["point_u_maze", "ant"])
def test_success_is_strictly_within_the_radius(name):
    task = make_task(name)
    achieved = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    goal = jnp.array([[0.3, 0.39], [0.3, 0.41], [1.0, 1.0]])
    np.testing.assert_allclose(task.distance(achieved, goal), [0.4920, 0.5080, 0.0], atol=1e-4)
    np.testing.assert_array_equal(is_success(task, achieved, goal), [True, False, True])


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"task = 'ant_u_mase' is not allowed.*nearest.*ant_u_maze"):
        make_task("ant_u_mase")
    with pytest.raises(UserError, match=r"one of .*point_spiral_maze"):
        make_task("")


def test_goal_from_text_is_parsed():
    assert parse_goal(make_task("ant"), "8, -0.5") == (8.0, -0.5)


@pytest.mark.parametrize("text", ["8", "8,0,1", "8;0", "eight,nine", "", "nan,0", "0,inf"])
def test_invalid_goal_names_the_tasks_coordinates(text):
    with pytest.raises(UserError) as error:
        parse_goal(make_task("ant"), text)
    assert repr(text) in str(error.value)
    assert "task ant takes 2 numbers" in str(error.value)
    assert "x (m), y (m)" in str(error.value)
