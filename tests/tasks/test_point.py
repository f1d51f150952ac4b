"""Point mazes: what is sensed, where episodes start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.physics.base import PhysicsState
from kilolayer.tasks.registry import make_task


def test_the_observation_is_position_and_velocity():
    task = make_task("point_u_maze")
    state = PhysicsState(
        jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]), {}, jnp.zeros((1, 0), jnp.uint32)
    )
    np.testing.assert_array_equal(task.observe(state), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(task.achieved_goal(state), [[1, 2]])


@pytest.mark.parametrize("layout", ["u", "big", "hardest", "spiral"])
def test_episodes_start_at_rest_within_the_start_cell(layout):
    task = make_task(f"point_{layout}_maze")
    qpos, qvel = task.reset(jax.random.key(0), jnp.zeros((500, 2)), "training")
    np.testing.assert_array_equal(qvel, np.zeros((500, 2)))
    offset = np.asarray(qpos) - task.maze.start
    assert 0.24 < np.abs(offset).max() <= 0.25
    assert np.abs(offset.mean(0)).max() < 0.03


@pytest.mark.parametrize(
    ("layout", "length"),
    [("u", 200), ("big", 400), ("hardest", 600), ("spiral", 1000), ("giant", 1000)],
)
def test_episode_is_long_enough_for_the_longest_path(layout, length):
    task = make_task(f"point_{layout}_maze")
    assert task.episode_length == length
    top_speed = task.world.acceleration / task.world.drag
    steps = task.maze.path_lengths_between(task.maze.start, task.maze.goals("training")).max() / (
        top_speed * task.world.control_step
    )
    assert task.episode_length > 1.5 * steps
