"""Tests for kilolayer.language.score, with followers whose answers are known."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.config import run_config
from kilolayer.language.base import Example
from kilolayer.language.score import Exam, Told, others
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
    """An agent that steers straight at its goal: walls stop it. The gain is its state."""

    def act(self, state, observation, goal, key, deterministic):
        away = goal - observation[:, :2]
        return jnp.clip(state * away - observation[:, 2:], -1, 1)


@dataclass(frozen=True)
class Sleeper:
    """Acts as `Straight` does, after having slept for as many steps as it was told."""

    def begin(self, state, told):
        return told

    def act(self, state, memory, observation) -> tuple[Array, Array]:
        goal = jnp.broadcast_to(jnp.array(NEAR), (len(memory), 2))
        action = Straight().act(state, observation, goal, None, True)
        return jnp.where(memory[:, None] > 0, 0.0, action), memory - 1


@pytest.fixture(scope="module")
def exam() -> Exam:
    return Exam(MAZE, run_config(task="point_u_maze"), EXAMPLES)


def test_success_by_kind_is_that_of_what_is_meant(exam):
    """Straight reaches what is beside the start, not what is behind a wall, and told the wrong goal
    not what was meant."""
    scores = exam.scores(Told(Straight()), 2.0, exam.goal)
    assert scores["episodes"] == 3
    assert scores["success"] == pytest.approx(2 / 3)
    assert {kind: (s["success"], s["episodes"]) for kind, s in scores["kinds"].items()} == {
        "absolute": (1.0, 2),
        "marker": (0.0, 1),
    }
    assert "hard_success" not in scores
    wrong = exam.scores(Told(Straight()), 2.0, jnp.flip(exam.goal, 1))
    assert wrong["kinds"]["absolute"]["success"] == 0


def test_a_follower_remembers(exam):
    """Those who sleep longer spend less time at the goal, step for step."""
    early, late = (
        exam.scores(Sleeper(), 2.0, jnp.full(3, sleep))["kinds"]["absolute"]["time_at_goal"]
        for sleep in (0, 50)
    )
    assert early - late == pytest.approx(50, abs=1)


def test_starts_do_not_depend_on_what_is_told(exam):
    again = Exam(MAZE, exam.config, EXAMPLES)
    np.testing.assert_array_equal(exam.start.qpos, again.start.qpos)
    np.testing.assert_array_equal(exam.start.goal, exam.goal)
    other = Exam(MAZE, exam.config, EXAMPLES, seed=1)
    assert not np.array_equal(exam.start.qpos, other.start.qpos)


def test_goal_scores_by_hand(exam):
    told = np.array([(1.0, 2.4), (3.0, 2.0), (1.0, 2.0)])
    scores = exam.goal_scores(told, np.array([0.5, 0.25, 1.0]))
    assert scores["goal_error"] == pytest.approx((0.4 + 1 + 0) / 3, rel=1e-5)
    assert scores["right"] == pytest.approx(2 / 3)
    assert scores["kinds"]["absolute"]["right"] == 1
    assert scores["kinds"]["marker"]["confidence"] == 0.25


@pytest.mark.parametrize("count", [2, 7, 100])
def test_others_are_all_told_and_nobody_its_own(count):
    other = others(count, seed=3)
    assert sorted(other) == list(range(count))
    assert (other != np.arange(count)).all()
    assert count < 7 or not np.array_equal(other, others(count, seed=4))


def test_told_what_is_meant_an_agent_scores_as_in_training(exam):
    evaluator = Evaluator(MAZE, exam.physics, Straight(), MAZE.episode_length)
    episodes = jax.jit(evaluator.run)(2.0, exam.key, exam.start)
    scores = exam.scores(Told(Straight()), 2.0, exam.goal)
    for name, value in episode_metrics(MAZE, episodes).items():
        assert scores.get(name, value) == pytest.approx(value, rel=1e-5)
