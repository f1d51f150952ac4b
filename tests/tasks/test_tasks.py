"""What holds for every registered task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.physics.base import PhysicsState
from kilolayer.tasks.base import goal_distance, is_success, parse_goal
from kilolayer.tasks.registry import TASKS, make_task
from kilolayer.types import UserError

NAMES = sorted(TASKS)
WORLDS = 6
OBSERVATIONS = {"ant": 29, "point": 4}
ACTIONS = {"ant": 8, "point": 2}


def first_state(task, seed: int = 0) -> PhysicsState:
    qpos, qvel = task.reset(jax.random.key(seed), WORLDS)
    return PhysicsState(qpos, qvel, {}, jnp.zeros((WORLDS, 0), jnp.uint32))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_names(name):
    task = make_task(name)
    body = name.split("_")[0]
    state = first_state(task)
    assert task.name == name
    assert task.action_dim == ACTIONS[body]
    assert len(task.observation) == OBSERVATIONS[body]
    assert task.observe(state).shape == (WORLDS, OBSERVATIONS[body])
    assert task.achieved_goal(state).shape == (WORLDS, task.goal.dim)
    assert task.terminated(state).shape == (WORLDS,)
    assert task.terminated(state).dtype == jnp.bool_
    assert not task.terminated(state).any()
    assert len({coordinate.name for coordinate in task.observation}) == len(task.observation)
    assert all(coordinate.unit for coordinate in (*task.observation, *task.goal.coordinates))
    assert 0 < task.goal.radius < task.goal.easy_radius


@pytest.mark.parametrize("name", NAMES)
def test_worlds_start_apart_and_the_key_decides_where(name):
    task = make_task(name)
    first, again, other = (first_state(task, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.qpos, again.qpos)
    assert not np.array_equal(first.qpos, other.qpos)
    assert len(np.unique(np.asarray(first.qpos), axis=0)) == WORLDS


@pytest.mark.parametrize("name", NAMES)
def test_goals_have_the_right_shape_and_are_not_reached_at_the_start(name):
    task = make_task(name)
    state = first_state(task)
    for split in task.splits:
        goals = task.sample_goal(jax.random.key(1), WORLDS, split)
        assert goals.shape == (WORLDS, task.goal.dim)
        assert len(np.unique(np.asarray(goals), axis=0)) > 1
        assert not is_success(task, task.achieved_goal(state), goals).all()
    assert task.splits[0] == "evaluation"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("maze")])
def test_goals_lie_in_the_goal_cells_of_their_split(name):
    task = make_task(name)
    size = task.maze.cell_size
    for split in task.splits:
        goals = np.asarray(task.sample_goal(jax.random.key(2), 200, split))
        cells = {tuple(cell) for cell in np.rint(goals / size).astype(int).tolist()}
        centres = np.rint(task.maze.goals(split) / size).astype(int).tolist()
        assert cells <= {tuple(cell) for cell in centres}


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("maze")])
def test_mazes_tell_training_goals_from_evaluation_goals(name):
    assert make_task(name).splits == ("evaluation", "training")


@pytest.mark.parametrize("name", ["point_u_maze", "ant"])
def test_success_is_strictly_within_the_radius(name):
    task = make_task(name)
    achieved = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    goal = jnp.array([[0.3, 0.39], [0.3, 0.41], [1.0, 1.0]])
    np.testing.assert_allclose(goal_distance(achieved, goal)[2], 0.0)
    np.testing.assert_array_equal(is_success(task, achieved, goal), [True, False, True])


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"task = 'ant_u_mase' is not allowed.*nearest.*ant_u_maze"):
        make_task("ant_u_mase")
    with pytest.raises(UserError, match=r"one of .*point_spiral_maze"):
        make_task("")


def test_a_goal_given_by_hand():
    assert parse_goal(make_task("ant"), "8, -0.5") == (8.0, -0.5)


@pytest.mark.parametrize("text", ["8", "8,0,1", "8;0", "eight,nine", "", "nan,0", "0,inf"])
def test_a_goal_that_is_none_names_what_the_task_takes(text):
    with pytest.raises(UserError) as error:
        parse_goal(make_task("ant"), text)
    assert repr(text) in str(error.value)
    assert "task ant takes 2 numbers" in str(error.value)
    assert "x (m), y (m)" in str(error.value)
