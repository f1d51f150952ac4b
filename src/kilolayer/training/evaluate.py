"""Evaluation: whole episodes with separate random keys, and their scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import ActingAgent
from kilolayer.physics.base import Physics, PhysicsState, select
from kilolayer.tasks.base import GoalSplit, Task, has_ended, is_success
from kilolayer.training.rollout import Policy, is_valid
from kilolayer.types import Array

# Folded into the seed, so that no evaluation key equals a training key.
EVALUATION_STREAM = 0x0E7A1
# Folded into the key of an evaluation, for draws that must be independent of its headline episodes.
GOAL_STREAM = 0x60A15
TRAINING_GOALS_STREAM = 0x7A16
BATCH_STREAM = 0xBA7C
# The score by which a run's best checkpoint is chosen.
HEADLINE = "time_at_goal"
# Environments whose generalised positions are recorded, for the video.
RECORDED_ENVS = 16
# (memory, observation [envs, observation], goal, key) -> action [envs, action], memory
RecurrentPolicy = Callable[[Any, Array, Array, Array], tuple[Array, Any]]


class Episodes(eqx.Module):
    """A recorded batch of episodes.

    start `[envs, goal]`: the achieved goal before the first step. The other arrays are recorded
    after each control step: goal `[time, envs, goal]`; achieved `[time, envs, goal]`; alive `[time,
    envs]`: whether the episode has not ended; qpos `[time, recorded, nq]`: generalised positions of
    the first `RECORDED_ENVS` environments; diverged `[time, envs]`: whether the episode ended in
    this step because its environment diverged. All values are finite: an environment that diverged
    keeps its last finite values.
    """

    start: Array
    goal: Array
    achieved: Array
    alive: Array
    qpos: Array
    diverged: Array


class EpisodeStart(eqx.Module):
    """The start of episodes: commanded goals `[envs, goal]`, qpos and qvel `[envs, ...]`."""

    goal: Array
    qpos: Array
    qvel: Array


def evaluation_key(seed: int, index: int) -> Array:
    """The key of evaluation number `index` of a run with this seed."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM), index)


def split_key(key: Array, split: GoalSplit) -> Array:
    """The key of one goal split's episodes, from the key of the evaluation."""
    return key if split == "evaluation" else jax.random.fold_in(key, TRAINING_GOALS_STREAM)


def batch_key(key: Array) -> Array:
    """The key of the training batch that is saved with an evaluation's episodes."""
    return jax.random.fold_in(key, BATCH_STREAM)


def evaluation_start(
    task: Task, key: Array, count: int, split: GoalSplit, goal: Array | None = None
) -> EpisodeStart:
    """The start of an evaluation with this key.

    goal: `[goal]` or `[count, goal]`; None: sampled from the split.
    """
    if goal is None:
        # A separate stream, because the episodes split the same key.
        goal = task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), count, split)
    goal = jnp.broadcast_to(goal, (count, task.goal.dim))
    start_key, _ = jax.random.split(key)
    return EpisodeStart(goal, *task.reset(start_key, goal, split))


def evaluation_policy(agent: ActingAgent, state: Any, samples: int) -> Policy:
    """The deterministic action for one sample, else the best rated of `samples` sampled actions."""
    if samples == 1:
        return lambda observation, goal, key: agent.act(state, observation, goal, key, True)

    def best_of_samples(observation: Array, goal: Array, key: Array) -> Array:
        def draw(key: Array) -> tuple[Array, Array]:
            action = agent.act(state, observation, goal, key, False)
            return action, agent.rate(state, observation, action, goal)

        actions, energies = jax.vmap(draw)(jax.random.split(key, samples))
        best = jnp.argmax(energies, axis=0)
        return jnp.take_along_axis(actions, best[None, :, None], axis=0)[0]

    return best_of_samples


@dataclass(frozen=True)
class Evaluator:
    """Runs episodes of `episode_length` control steps in the environments of `physics`."""

    task: Task
    physics: Physics
    agent: ActingAgent
    episode_length: int
    samples: int = 1

    def run(self, agent_state: Any, key: Array, start: EpisodeStart) -> Episodes:
        """Whole episodes, one from each start. key: the key that the start was made with."""
        policy = evaluation_policy(self.agent, agent_state, self.samples)

        def act(memory: None, observation: Array, goal: Array, key: Array) -> tuple[Array, None]:
            return policy(observation, goal, key), memory

        return play_episodes(self.task, self.physics, act, None, key, start, self.episode_length)


def play_episodes(
    task: Task,
    physics: Physics,
    policy: RecurrentPolicy,
    memory: Any,
    key: Array,
    start: EpisodeStart,
    length: int,
) -> Episodes:
    """Whole episodes of a policy with a memory that it updates at every step; see `Evaluator`."""
    _, steps_key = jax.random.split(key)

    def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        state, memory = carry
        action, memory = policy(memory, task.observe(state.physics), state.goal, key)
        state, record = step_episodes(task, physics, state, action)
        return (state, memory), record

    state = start_episodes(task, physics, start)
    keys = jax.random.split(steps_key, length)
    _, record = jax.lax.scan(control_step, (state, memory), keys)
    return Episodes(task.achieved_goal(state.physics), *record)


class EpisodeState(eqx.Module):
    """Episodes between two control steps. No environment is reset before all episodes are over.

    goal `[envs, goal]`; alive `[envs]`: whether the episode has not ended; diverged `[envs]`:
    whether the environment has diverged and is frozen.
    """

    physics: PhysicsState
    goal: Array
    alive: Array
    diverged: Array


def start_episodes(task: Task, physics: Physics, start: EpisodeStart) -> EpisodeState:
    """Episodes before their first step."""
    state = physics.init(start.qpos, start.qvel)
    return continue_episodes(state, task.current_goal(state, start.goal))


def continue_episodes(state: PhysicsState, goal: Array) -> EpisodeState:
    """Episodes that continue from a state in which all are alive. goal: `[envs, goal]`."""
    alive = jnp.ones(goal.shape[0], bool)
    return EpisodeState(state, goal, alive, ~alive)


def step_episodes(
    task: Task, physics: Physics, state: EpisodeState, action: Array
) -> tuple[EpisodeState, tuple[Array, ...]]:
    """One control step with `action [envs, action]`, and the arrays of `Episodes` for it, in order.

    An environment that diverges returns to its previous state and is frozen there, so that policies
    and scores receive only finite values.
    """
    stepped = physics.step(state.physics, action)
    goal = task.current_goal(stepped, state.goal)
    diverged = state.diverged | ~is_valid(task, stepped, goal)
    stepped = select(diverged, state.physics, stepped)
    goal = jnp.where(diverged[:, None], state.goal, goal)
    alive = state.alive & ~diverged & ~has_ended(task, stepped)
    achieved, qpos = task.achieved_goal(stepped), stepped.qpos[:RECORDED_ENVS]
    record = goal, achieved, alive, qpos, state.alive & diverged
    return EpisodeState(stepped, goal, alive, diverged), record


def episode_metrics(task: Task, episodes: Episodes) -> dict[str, float]:
    """Scores of episodes; distances are in the goal's unit, times in control steps.

    time_at_goal: mean steps within the success radius (the headline). success, easy_success,
    hard_success: share of episodes with any step within the radius, the easy and the hard radius.
    An episode that ended early keeps the distance of its last step and collects no more time.
    survival, diverged: share of episodes that did not end early, and whose environment diverged.
    path_efficiency: length of the shortest path divided by the length of the path taken, over the
    successful episodes. In mazes, also the success for every length of the shortest path from start
    to goal, in cells, and for every task of a maze that has tasks. behaviour/...: the task's own
    measures, from the recorded environments.
    """
    scores = episode_scores(task, episodes)
    metrics = {name: values.mean() for name, values in scores.items()}
    success, alive = scores["success"], np.asarray(episodes.alive)
    start, goal = np.asarray(episodes.start), np.asarray(episodes.goal)[0]
    shortest = np.asarray(task.distance(episodes.start, episodes.goal[0]))
    if task.maze is not None:
        lengths = task.maze.path_lengths_between(start[:, :2], goal[:, :2])
        for length in np.unique(lengths[lengths >= 0]):
            metrics[f"success_by_path/{length}"] = success[lengths == length].mean()
        numbers = task.maze.task_numbers(start[:, :2], goal[:, :2])
        for number in np.unique(numbers[numbers > 0]):
            metrics[f"success_by_task/{number}"] = success[numbers == number].mean()
        # Within one cell, or if one of the two lies in a wall, the way is a straight line.
        shortest = np.where(lengths > 0, lengths * task.maze.cell_size, shortest)
    if success.any():
        efficiency = path_efficiency(episodes, _at_goal(task, episodes), shortest)
        metrics["path_efficiency"] = efficiency[success].mean()
    recorded = np.asarray(episodes.qpos)
    measures = task.behaviour(recorded, alive[:, : recorded.shape[1]])
    metrics |= {f"behaviour/{name}": value for name, value in measures.items()}
    return {name: float(value) for name, value in metrics.items()}


def episode_scores(task: Task, episodes: Episodes) -> dict[str, np.ndarray]:
    """The scores of `episode_metrics` for each episode, `[envs]` each."""
    alive, at_goal = np.asarray(episodes.alive), _at_goal(task, episodes)
    distance = np.asarray(task.distance(episodes.achieved, episodes.goal))
    last = np.maximum(alive.sum(0) - 1, 0)
    smallest = np.where(alive, distance, np.inf).min(0)
    scores = {
        "time_at_goal": at_goal.sum(0),
        "success": at_goal.any(0),
        "easy_success": (alive & (distance < task.goal.easy_radius)).any(0),
        "final_distance": distance[last, np.arange(len(last))],
        "smallest_distance": np.minimum(smallest, distance[0]),
        "survival": alive[-1],
        "diverged": np.asarray(episodes.diverged).any(0),
    }
    if task.goal.hard_radius is not None:
        scores["hard_success"] = (alive & (distance < task.goal.hard_radius)).any(0)
    return scores


def _at_goal(task: Task, episodes: Episodes) -> np.ndarray:
    """Whether an episode is alive and within the success radius, `[time, envs]`."""
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    return np.logical_and(np.asarray(episodes.alive), close)


def path_efficiency(episodes: Episodes, at_goal: np.ndarray, shortest: np.ndarray) -> np.ndarray:
    """Length of the shortest path divided by that of the path taken to the goal, 0 to 1, `[envs]`.

    at_goal `[time, envs]`, shortest `[envs]` in the goal's unit. The path taken can be shorter than
    `shortest`, because of the radius or a cut corner; it then counts as 1.
    """
    first = np.argmax(at_goal, axis=0)
    positions = np.concatenate([episodes.start[None], episodes.achieved])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    path = np.where(np.arange(len(steps))[:, None] <= first, steps, 0).sum(0)
    return shortest / np.maximum(shortest, np.maximum(path, 1e-9))
