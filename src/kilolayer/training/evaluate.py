"""Evaluation: whole episodes with keys of their own, and what they are worth."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import Agent
from kilolayer.physics.base import Physics
from kilolayer.tasks.base import GoalSplit, Task, goal_distance, is_success
from kilolayer.training.rollout import Policy, start_worlds
from kilolayer.types import Array

# Folded into the seed, so that evaluation keys never meet training keys.
EVALUATION_STREAM = 0x0E7A1
GOAL_STREAM = 0x60A15
# Worlds whose generalised positions are recorded, for the video.
RECORDED_WORLDS = 16


class Episodes(eqx.Module):
    """What happened in a batch of episodes.

    goal `[worlds, goal]`; achieved `[time, worlds, goal]` after each control step; alive
    `[time, worlds]`: whether the episode had not terminated by then; qpos `[time, recorded, nq]`:
    generalised positions of the first `RECORDED_WORLDS` worlds.
    """

    goal: Array
    achieved: Array
    alive: Array
    qpos: Array


def evaluation_key(seed: int, index: int) -> Array:
    """The key of evaluation number `index` of a run with this seed."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM), index)


def evaluation_goals(task: Task, key: Array, count: int, split: GoalSplit) -> Array:
    """Goals of a split for an evaluation with this key, `[count, goal]`."""
    # A stream of its own: the episodes split the same key.
    return task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), count, split)


def evaluation_policy(agent: Agent, state: Any, samples: int) -> Policy:
    """The deterministic action, or the best rated of `samples` drawn actions if above one."""
    if samples == 1:
        return lambda observation, goal, key: agent.act(state, observation, goal, key, True)

    def best_of_samples(observation: Array, goal: Array, key: Array) -> Array:
        def draw(key: Array) -> tuple[Array, Array]:
            action = agent.act(state, observation, goal, key, False)
            return action, agent.energy(state, observation, action, goal)

        actions, energies = jax.vmap(draw)(jax.random.split(key, samples))
        best = jnp.argmax(energies, axis=0)
        return jnp.take_along_axis(actions, best[None, :, None], axis=0)[0]

    return best_of_samples


@dataclass(frozen=True)
class Evaluator:
    """Runs episodes of `episode_length` control steps; `physics` sets how many at once."""

    task: Task
    physics: Physics
    agent: Agent
    episode_length: int
    samples: int = 1

    def run(self, agent_state: Any, key: Array, goal: Array) -> Episodes:
        """Whole episodes toward the goals `[worlds, goal]`, one each."""
        start_key, steps_key = jax.random.split(key)
        task, physics = self.task, self.physics
        worlds = start_worlds(task, physics, start_key, goal)
        policy = evaluation_policy(self.agent, agent_state, self.samples)

        def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            state, alive = carry
            action = policy(task.observe(state), goal, key)
            state = physics.step(state, action)
            alive = alive & ~task.terminated(state)
            record = (task.achieved_goal(state), alive, state.qpos[:RECORDED_WORLDS])
            return (state, alive), record

        start = (worlds.physics, jnp.ones(goal.shape[0], bool))
        keys = jax.random.split(steps_key, self.episode_length)
        _, (achieved, alive, qpos) = jax.lax.scan(control_step, start, keys)
        return Episodes(goal, achieved, alive, qpos)


def episode_metrics(task: Task, episodes: Episodes) -> dict[str, float]:
    """Scores of episodes; distances are in the goal's unit, times in control steps.

    time_at_goal: mean steps within the success radius (the headline). success, easy_success: share
    of episodes with any step within the radius, the easy radius. A terminated episode keeps the
    distance that it had at its last step and collects no more time. In mazes, also the success for
    every length of the shortest path from the start to the goal, in cells.
    """
    goal, alive = np.asarray(episodes.goal), np.asarray(episodes.alive)
    distance = np.asarray(goal_distance(episodes.achieved, episodes.goal))
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    at_goal = np.logical_and(alive, close)
    success = np.any(at_goal, axis=0)
    last = np.maximum(alive.sum(0) - 1, 0)
    smallest = np.where(alive, distance, np.inf).min(0)
    smallest = np.minimum(smallest, distance[0])
    metrics = {
        "time_at_goal": at_goal.sum(0).mean(),
        "success": success.mean(),
        "easy_success": (alive & (distance < task.goal.easy_radius)).any(0).mean(),
        "final_distance": distance[last, np.arange(len(goal))].mean(),
        "smallest_distance": smallest.mean(),
        "survival": alive[-1].mean(),
    }
    if task.maze is not None:
        lengths = task.maze.path_length_to(goal)
        for length in np.unique(lengths[lengths >= 0]):
            metrics[f"success_by_path/{length}"] = success[lengths == length].mean()
    return {name: float(value) for name, value in metrics.items()}
