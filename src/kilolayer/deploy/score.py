"""Scores of a policy on its task, as in training, and the observations that it visits there."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from kilolayer.analysis.statistics import Estimate, mean_interval
from kilolayer.config import RunConfig
from kilolayer.physics.build import build_physics
from kilolayer.runtime.devices import require_memory
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import (
    GOAL_STREAM,
    HEADLINE,
    Episodes,
    Evaluator,
    episode_metrics,
    episode_scores,
    evaluation_key,
    evaluation_policy,
    evaluation_start,
)
from kilolayer.training.rollout import reset, unroll

VISITING_ENVS = 16
NEW_EPISODES = 2**30  # an evaluation number that no run reaches


@dataclass(frozen=True)
class PairedScores:
    """Two policies on the same episodes.

    change: mean paired difference in time at goal from the baseline, in control steps; its `seeds`
    counts episodes.
    """

    scores: dict[str, float]
    baseline: dict[str, float]
    change: Estimate


def compare_paired(task: Task, episodes: Episodes, baseline: Episodes) -> PairedScores:
    """Compare two policies episode by episode; raises UserError for a single episode."""
    ours, theirs = (episode_scores(task, each)[HEADLINE] for each in (episodes, baseline))
    longest = float(task.episode_length)
    return PairedScores(
        episode_metrics(task, episodes),
        episode_metrics(task, baseline),
        mean_interval(ours - theirs, (-longest, longest)),
    )


@dataclass(frozen=True)
class Scorer:
    """Scores every policy on the same starts and goals.

    config: of the policies' original run, for the physics. episodes: played on the task's
    evaluation goals. With one seed, the scores of two policies differ only by their actions. index:
    number of the evaluation within the seed; `NEW_EPISODES` gives starts and goals that no run has
    seen and that selected no policy.
    """

    task: Task
    config: RunConfig
    episodes: int = 128
    seed: int = 0
    index: int = 0

    def __post_init__(self) -> None:
        """Raises UserError for more episodes than this machine can hold."""
        recorded = 8 * self.task.goal.dim  # bytes of a step: the achieved and the commanded goal
        require_memory("episodes", self.episodes, recorded * self.task.episode_length)

    def scores(self, agent: Any, state: Any) -> dict[str, float]:
        """`episode_metrics` of an agent (an object with `act`) in this state."""
        return episode_metrics(self.task, self.play(agent, state))

    def play(self, agent: Any, state: Any) -> Episodes:
        evaluator = Evaluator(self.task, self.physics, agent, self.task.episode_length)
        return jax.jit(evaluator.run)(state, self.key, self.start)

    def time_at_goal(self, agent: Any, state: Any) -> float:
        """Mean control steps within the success radius, the score used for deployment."""
        return self.scores(agent, state)["time_at_goal"]

    @cached_property
    def physics(self) -> Any:
        return build_physics(self.task.world, self.episodes, self.config.physics)

    @cached_property
    def key(self) -> jax.Array:
        return evaluation_key(self.seed, self.index)

    @cached_property
    def start(self) -> Any:
        return evaluation_start(self.task, self.key, self.episodes, "evaluation")


def visited(
    task: Task, config: RunConfig, agent: Any, state: Any, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(observation [rows, o], goal [rows, g])` under deterministic actions, spread over time.

    agent: an object with `act`; state: its state. The environments start as in an evaluation with
    seed 0. They play one episode, or as much of it as gives ten times the rows.
    """
    per_env = -(-rows // VISITING_ENVS)
    length = max(per_env, min(task.episode_length, 10 * per_env))
    physics = build_physics(task.world, VISITING_ENVS, config.physics)
    key = evaluation_key(0, 0)
    goal = task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), VISITING_ENVS, "evaluation")
    start_key, steps_key = jax.random.split(key)

    @jax.jit
    def play(state: Any) -> Any:
        envs = reset(task, physics, start_key, goal, "evaluation")
        policy = evaluation_policy(agent, state, samples=1)
        return unroll(task, physics, envs, policy, steps_key, length, task.episode_length)[1]

    steps = play(state)
    times = np.linspace(0, length - 1, per_env).astype(int)

    def selected(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf)[times].reshape(-1, leaf.shape[-1])[:rows]

    return selected(steps.observation), selected(steps.goal)
