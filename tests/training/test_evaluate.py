"""Evaluation: scores computed by hand, separate keys, choice among samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import (
    Episodes,
    episode_metrics,
    evaluation_key,
    evaluation_policy,
)


def episodes(achieved, alive, goal, start=(0, 0)) -> Episodes:
    """Episodes of ants or points toward goals `[..., goal]`, given from one place."""
    achieved = jnp.array(achieved, float)
    goal = jnp.broadcast_to(jnp.array(goal, float), achieved.shape)
    start = jnp.broadcast_to(jnp.array(start, float), achieved.shape[1:])
    qpos, none = jnp.zeros((len(achieved), 1, 15)), jnp.zeros(achieved.shape[:2], bool)
    return Episodes(start, goal, achieved, jnp.array(alive), qpos, none)


def test_scores_match_hand_computation() -> None:
    # Two environments, three steps, ant radii 0.5 and 2. The first passes its goal, the second
    # falls.
    achieved = [[[9, 0], [0, 1]], [[10, 0.3], [0, 8.5]], [[11, 0], [0, 10]]]
    alive = [[True, True], [True, True], [True, False]]
    scores = episode_metrics(make_task("ant"), episodes(achieved, alive, [[10, 0], [0, 10]]))
    assert scores["time_at_goal"] == pytest.approx((1 + 0) / 2)
    assert scores["success"] == pytest.approx(0.5)
    assert scores["easy_success"] == pytest.approx(1.0)
    assert scores["final_distance"] == pytest.approx((1.0 + 1.5) / 2)
    assert scores["smallest_distance"] == pytest.approx((0.3 + 1.5) / 2)
    assert scores["survival"] == pytest.approx(0.5)


def test_success_is_reported_by_path_length_in_a_maze() -> None:
    # u maze: (1, 2) is one cell from the start, (3, 3) four.
    achieved = [[[1, 2], [1, 1]]]
    scores = episode_metrics(
        make_task("point_u_maze"), episodes(achieved, [[True, True]], [[1, 2], [3, 3]], (1, 1))
    )
    assert scores["success_by_path/1"] == 1.0
    assert scores["success_by_path/4"] == 0.0


def test_path_efficiency_is_shortest_over_taken_path_length() -> None:
    # u maze: (1, 2) is one cell from the start. The second environment walks 0.5 + 1.5 cells until
    # there; what it does at the goal does not count. The third never arrives.
    achieved = [
        [[1, 1.6], [0.5, 1], [1, 1]],
        [[1, 2], [0.5, 2.5], [1, 1]],
        [[1, 2], [1, 2], [1, 1]],
    ]
    alive = np.ones((3, 3), bool)
    scores = episode_metrics(make_task("point_u_maze"), episodes(achieved, alive, [1, 2], (1, 1)))
    assert scores["success"] == pytest.approx(2 / 3)
    taken = 0.5 + 1.5 + 0.5 * np.sqrt(2)
    assert scores["path_efficiency"] == pytest.approx((1 + 1 / taken) / 2)
    lost = episode_metrics(make_task("point_u_maze"), episodes(achieved, alive, [3, 3], (1, 1)))
    assert "path_efficiency" not in lost


@pytest.mark.parametrize("goal", [(1.4, 1.0), (1.0, 0.4)])
def test_path_within_a_cell_or_to_a_wall_is_a_straight_line(goal: tuple[float, float]) -> None:
    """u maze: the first goal lies in the cell of the start, (1, 1), the second in a wall."""
    straight = np.linalg.norm(np.subtract(goal, (1, 1)))
    away, there = [[1.3, 1.9]], [list(goal)]
    scores = episode_metrics(
        make_task("point_u_maze"), episodes([away, there], np.ones((2, 1), bool), goal, (1, 1))
    )
    taken = np.hypot(0.3, 0.9) + np.linalg.norm(np.subtract(goal, (1.3, 1.9)))
    assert scores["success"] == 1.0
    assert scores["path_efficiency"] == pytest.approx(straight / taken)


def test_scores_use_the_current_goal_of_each_step() -> None:
    goal, alive = [[[9.0, 0.0]], [[0.1, 0.0]]], np.ones((2, 1), bool)
    moving = episodes(np.zeros((2, 1, 2)), alive, goal)
    scores = episode_metrics(make_task("ant"), moving)
    assert scores["time_at_goal"] == 1.0
    assert scores["final_distance"] == pytest.approx(0.1)


def test_evaluation_keys_differ_by_seed_and_by_evaluation() -> None:
    keys = [evaluation_key(seed, index) for seed in (0, 1) for index in (0, 1)]
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    data.add(tuple(np.asarray(jax.random.key_data(jax.random.key(0))).tolist()))
    assert len(data) == 5


class Guesser:
    """Draws one uniform action coordinate; its critic prefers large ones."""

    def act(self, state: Any, observation, goal, key, deterministic):
        shape = (observation.shape[0], 1)
        return jnp.zeros(shape) if deterministic else jax.random.uniform(key, shape)

    def rate(self, state: Any, observation, action, goal):
        return action[..., 0]


def test_more_samples_give_actions_with_higher_energy() -> None:
    observation, goal, key = jnp.zeros((2000, 1)), jnp.zeros((2000, 1)), jax.random.key(0)
    agent: Any = Guesser()
    one = evaluation_policy(agent, None, 1)(observation, goal, key)
    best = evaluation_policy(agent, None, 9)(observation, goal, key)
    np.testing.assert_array_equal(one, 0.0)
    # The largest of nine uniform numbers is 0.9 on average.
    assert best.shape == (2000, 1)
    assert float(best.mean()) == pytest.approx(0.9, abs=0.01)
