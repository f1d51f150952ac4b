"""Rollouts: what is recorded, when episodes end, who is reset."""

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.build import build_physics
from kilolayer.tasks.registry import make_task
from kilolayer.training.rollout import reset, unroll

ENVS = 3


def play(task_name: str, policy, length: int, episode_length: int):
    task = make_task(task_name)
    physics = build_physics(task.world, ENVS)

    @jax.jit
    def run(key):
        goal = task.sample_goal(key, ENVS, "training")
        envs = reset(task, physics, key, goal, "training")
        return unroll(task, physics, envs, policy, key, length, episode_length)[:2]

    return run(jax.random.key(0))


def push_right(observation, goal, key):
    return jnp.tile(jnp.array([0.0, 1.0]), (observation.shape[0], 1))


def test_episode_steps_restart_after_the_episode_length() -> None:
    envs, trajectory = play("point_u_maze", push_right, length=23, episode_length=10)
    expected = np.arange(23) % 10
    np.testing.assert_array_equal(trajectory.episode_step, np.tile(expected[:, None], (1, ENVS)))
    np.testing.assert_array_equal(envs.episode_step, [3] * ENVS)


def test_reset_restores_the_start_and_samples_a_new_goal() -> None:
    _, trajectory = play("point_u_maze", push_right, length=23, episode_length=10)
    y = np.asarray(trajectory.achieved_goal)[:, :, 1]
    assert (np.diff(y[:10], axis=0) >= 0).all()
    assert (y[10] < y[9]).all()
    goal = np.asarray(trajectory.goal)
    np.testing.assert_array_equal(goal[0], goal[9])
    assert (goal[9] != goal[10]).any(axis=-1).all()


def test_goal_interval_changes_goals_within_an_episode() -> None:
    task = make_task("point_u_maze")
    physics = build_physics(task.world, ENVS)

    @jax.jit
    def run(key):
        goal = task.sample_goal(key, ENVS, "training")
        envs = reset(task, physics, key, goal, "training")
        return unroll(task, physics, envs, push_right, key, 23, 10, goal_interval=4)[1]

    changes = np.any(np.diff(np.asarray(run(jax.random.key(0)).goal), axis=0), axis=-1)
    # At the ages 4 and 8, and with every new episode.
    np.testing.assert_array_equal(np.flatnonzero(changes.all(axis=1)) + 1, [4, 8, 10, 14, 18, 20])
    assert changes.any(axis=1).sum() == 6


def test_recorded_achieved_goal_is_part_of_the_observation() -> None:
    _, trajectory = play("point_u_maze", push_right, length=5, episode_length=10)
    np.testing.assert_array_equal(trajectory.observation[..., :2], trajectory.achieved_goal)


def test_only_the_unhealthy_ant_is_reset() -> None:
    def thrash(observation, goal, key):
        action = jax.random.uniform(key, (observation.shape[0], 8), minval=-1.0)
        return action.at[0].set(0.0)  # the first ant is limp

    _, trajectory = play("gym_ant", thrash, length=200, episode_length=1000)
    episode_step, height = (
        np.asarray(trajectory.episode_step),
        np.asarray(trajectory.observation)[..., 2],
    )
    restarts = np.argwhere(np.diff(episode_step, axis=0) < 0)
    assert len(restarts) > 0
    for time, env in restarts:  # alone: the others' ages go on
        others = np.delete(np.diff(episode_step, axis=0)[time], env)
        assert (others == 1).any()
    assert ((height >= 0.2) & (height <= 1.0)).all()  # a terminal state is never acted upon
