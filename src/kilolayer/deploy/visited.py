"""Observations and goals that a policy meets in its task."""

from typing import Any

import jax
import numpy as np

from kilolayer.config import RunConfig
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task
from kilolayer.training.evaluate import GOAL_STREAM, evaluation_key, evaluation_policy
from kilolayer.training.rollout import start_worlds, unroll

WORLDS = 16


def visited(
    task: Task, config: RunConfig, agent: Any, state: Any, rows: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`(observation [rows, o], goal [rows, g])` met with deterministic actions, spread over time.

    agent: an object with `act`, in this state. The worlds begin as those of an evaluation with this
    seed and play an episode, or as much of it as gives the rows ten times over.
    """
    per_world = -(-rows // WORLDS)
    length = max(per_world, min(task.episode_length, 10 * per_world))
    physics = build_physics(task.world, WORLDS, config.physics)
    key = evaluation_key(seed, 0)
    goal = task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), WORLDS, "evaluation")
    start_key, steps_key = jax.random.split(key)

    @jax.jit
    def play(state: Any) -> Any:
        worlds = start_worlds(task, physics, start_key, goal, "evaluation")
        policy = evaluation_policy(agent, state, samples=1)
        return unroll(task, physics, worlds, policy, steps_key, length, task.episode_length)[1]

    steps = play(state)
    times = np.linspace(0, length - 1, per_world).astype(int)

    def taken(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf)[times].reshape(-1, leaf.shape[-1])[:rows]

    return taken(steps.observation), taken(steps.goal)
