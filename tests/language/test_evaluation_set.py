"""Tests for kilolayer.language.evaluation_set, with policies whose behaviour is known."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.config import run_config
from kilolayer.language.base import Example
from kilolayer.language.evaluation_set import EvaluationSet, GoalPolicy, derangement
from kilolayer.tasks.registry import make_task
from kilolayer.training.evaluate import Evaluator, episode_metrics
from kilolayer.types import Array

MAZE = make_task("point_u_maze")
NEAR, FAR = (1.0, 2.0), (3.0, 1.0)  # beside the start, and around two corners from it
EXAMPLES = [
    Example("beside", (), NEAR, "absolute", "t", "", "seen"),
    Example("far", (), FAR, "marker", "t", "", "seen"),
    Example("beside again", (), NEAR, "absolute", "t", "", "seen"),
]


@dataclass(frozen=True)
class Straight:
    """An agent that steers straight to its goal and is stopped by walls. The gain is its state."""

    def act(self, state, observation, goal, key, deterministic):
        difference = goal - observation[:, :2]
        return jnp.clip(state * difference - observation[:, 2:], -1, 1)


@dataclass(frozen=True)
class Delayed:
    """Acts as `Straight` does, after a delay; the condition is the number of steps."""

    def begin(self, state, condition):
        return condition

    def act(self, state, memory, observation) -> tuple[Array, Array]:
        goal = jnp.broadcast_to(jnp.array(NEAR), (len(memory), 2))
        action = Straight().act(state, observation, goal, None, True)
        return jnp.where(memory[:, None] > 0, 0.0, action), memory - 1


@pytest.fixture(scope="module")
def evaluation() -> EvaluationSet:
    return EvaluationSet(MAZE, run_config(task="point_u_maze"), EXAMPLES)


def test_success_by_kind_refers_to_the_intended_goal(evaluation):
    """Straight reaches the goal beside the start and not the goal behind a wall. With a wrong goal
    it does not reach the intended one."""
    scores = evaluation.scores(GoalPolicy(Straight()), 2.0, evaluation.goal)
    assert scores["episodes"] == 3
    assert scores["success"] == pytest.approx(2 / 3)
    assert {kind: (s["success"], s["episodes"]) for kind, s in scores["kinds"].items()} == {
        "absolute": (1.0, 2),
        "marker": (0.0, 1),
    }
    assert "hard_success" not in scores
    wrong = evaluation.scores(GoalPolicy(Straight()), 2.0, jnp.flip(evaluation.goal, 1))
    assert wrong["kinds"]["absolute"]["success"] == 0


def test_memory_is_carried_from_step_to_step(evaluation):
    """A longer delay leaves less time at the goal, step for step."""
    early, late = (
        evaluation.scores(Delayed(), 2.0, jnp.full(3, delay))["kinds"]["absolute"]["time_at_goal"]
        for delay in (0, 50)
    )
    assert early - late == pytest.approx(50, abs=1)


def test_starts_depend_only_on_the_seed(evaluation):
    again = EvaluationSet(MAZE, evaluation.config, EXAMPLES)
    np.testing.assert_array_equal(evaluation.start.qpos, again.start.qpos)
    np.testing.assert_array_equal(evaluation.start.goal, evaluation.goal)
    other = EvaluationSet(MAZE, evaluation.config, EXAMPLES, seed=1)
    assert not np.array_equal(evaluation.start.qpos, other.start.qpos)


def test_goal_scores_match_hand_computation(evaluation):
    goals = np.array([(1.0, 2.4), (3.0, 2.0), (1.0, 2.0)])
    scores = evaluation.goal_scores(goals, np.array([0.5, 0.25, 1.0]))
    assert scores["goal_error"] == pytest.approx((0.4 + 1 + 0) / 3, rel=1e-5)
    assert scores["right"] == pytest.approx(2 / 3)
    assert scores["kinds"]["absolute"]["right"] == 1
    assert scores["kinds"]["marker"]["confidence"] == 0.25


@pytest.mark.parametrize("count", [2, 7, 100])
def test_derangement_is_a_permutation_without_fixed_points(count):
    other = derangement(count, seed=3)
    assert sorted(other) == list(range(count))
    assert (other != np.arange(count)).all()
    assert count < 7 or not np.array_equal(other, derangement(count, seed=4))


def test_scores_with_the_intended_goal_equal_those_of_training(evaluation):
    evaluator = Evaluator(MAZE, evaluation.physics, Straight(), MAZE.episode_length)
    episodes = jax.jit(evaluator.run)(2.0, evaluation.key, evaluation.start)
    scores = evaluation.scores(GoalPolicy(Straight()), 2.0, evaluation.goal)
    for name, value in episode_metrics(MAZE, episodes).items():
        assert scores.get(name, value) == pytest.approx(value, rel=1e-5)
