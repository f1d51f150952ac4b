"""Observations and goals that a policy visits in its task."""

from typing import Any

import jax
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import GOAL_STREAM, evaluation_key, evaluation_policy
from kilolayer.training.rollout import reset, unroll

ENVS = 16


def visited(
    task: Task, config: RunConfig, agent: Any, state: Any, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(observation [rows, o], goal [rows, g])` under deterministic actions, spread over time.

    agent: an object with `act`; state: its state. The environments start as in an evaluation with
    seed 0. They play one episode, or as much of it as gives ten times the rows.
    """
    per_env = -(-rows // ENVS)
    length = max(per_env, min(task.episode_length, 10 * per_env))
    physics = build_physics(task.world, ENVS, config.physics)
    key = evaluation_key(0, 0)
    goal = task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), ENVS, "evaluation")
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
