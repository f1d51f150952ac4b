"""Evaluation: whole episodes with keys of their own, and what they are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import ActingAgent
from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.tasks.base import GoalSplit, Task, has_ended, is_success
from kilolayer.training.divergence import held, is_sound
from kilolayer.training.rollout import Policy
from kilolayer.types import Array

# Folded into the seed, so that evaluation keys never meet training keys.
EVALUATION_STREAM = 0x0E7A1
# Folded into the key of an evaluation, for what must not share a draw with its headline episodes.
GOAL_STREAM = 0x60A15
TRAINING_GOALS_STREAM = 0x7A16
BATCH_STREAM = 0xBA7C
# The score that says which of a run's agents is the best.
HEADLINE = "time_at_goal"
# Environments whose generalised positions are recorded, for the video.
RECORDED_ENVS = 16
# (memory, observation [envs, observation], goal, key) -> action [envs, action], memory
RememberingPolicy = Callable[[Any, Array, Array, Array], tuple[Array, Any]]


class Episodes(eqx.Module):
    """What happened in a batch of episodes.

    start `[envs, goal]`: the achieved goal before the first step. All else is taken after each
    control step: goal `[time, envs, goal]`; achieved `[time, envs, goal]`; alive `[time,
    environments]`: whether the episode had not ended by then; qpos `[time, recorded, nq]`:
    generalised positions of the first `RECORDED_ENVS` environments; diverged `[time, envs]`:
    whether the episode ended in this very step because its environment diverged. All numbers are
    finite: those of an environment that diverged are from then on the last ones that were.
    """

    start: Array
    goal: Array
    achieved: Array
    alive: Array
    qpos: Array
    diverged: Array


class Start(eqx.Module):
    """How episodes begin: the goals told, `[envs, goal]`, and qpos and qvel, `[envs, ...]`."""

    goal: Array
    qpos: Array
    qvel: Array


def evaluation_key(seed: int, index: int) -> Array:
    """The key of evaluation number `index` of a run with this seed."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM), index)


def split_key(key: Array, split: GoalSplit) -> Array:
    """The key of one goal split's episodes, from that of the evaluation."""
    return key if split == "evaluation" else jax.random.fold_in(key, TRAINING_GOALS_STREAM)


def batch_key(key: Array) -> Array:
    """The key of the training batch that is kept beside an evaluation's episodes."""
    return jax.random.fold_in(key, BATCH_STREAM)


def evaluation_start(
    task: Task, key: Array, count: int, split: GoalSplit, goal: Array | None = None
) -> Start:
    """How an evaluation with this key begins; `goal [goal]` or `[count, goal]` if told by hand."""
    if goal is None:
        # A stream of its own: the episodes split the same key.
        goal = task.sample_goal(jax.random.fold_in(key, GOAL_STREAM), count, split)
    goal = jnp.broadcast_to(goal, (count, task.goal.dim))
    start_key, _ = jax.random.split(key)
    return Start(goal, *task.reset(start_key, goal, split))


def evaluation_policy(agent: ActingAgent, state: Any, samples: int) -> Policy:
    """The deterministic action, or the best rated of `samples` drawn actions if above one."""
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
    """Runs episodes of `episode_length` control steps; `physics` sets how many at once."""

    task: Task
    physics: Physics
    agent: ActingAgent
    episode_length: int
    samples: int = 1

    def run(self, agent_state: Any, key: Array, start: Start) -> Episodes:
        """Whole episodes, one from each start; `key` is the one that the start was made with."""
        policy = evaluation_policy(self.agent, agent_state, self.samples)

        def act(memory: None, observation: Array, goal: Array, key: Array) -> tuple[Array, None]:
            return policy(observation, goal, key), memory

        return play(self.task, self.physics, act, None, key, start, self.episode_length)


def play(
    task: Task,
    physics: Physics,
    policy: RememberingPolicy,
    memory: Any,
    key: Array,
    start: Start,
    length: int,
) -> Episodes:
    """Whole episodes of a policy that hands itself a memory from step to step; see `Evaluator`."""
    _, steps_key = jax.random.split(key)

    def control_step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
        playing, memory = carry
        action, memory = policy(memory, task.observe(playing.physics), playing.goal, key)
        playing, seen = play_step(task, physics, playing, action)
        return (playing, memory), seen

    playing = begin(task, physics, start)
    keys = jax.random.split(steps_key, length)
    _, seen = jax.lax.scan(control_step, (playing, memory), keys)
    return Episodes(task.achieved_goal(playing.physics), *seen)


class Playing(eqx.Module):
    """Episodes under way, between two control steps, none of which is reset before all are over.

    goal `[envs, goal]`; alive `[envs]`: whose episode has not ended; lost `[envs]`: which
    have diverged and stand still.
    """

    physics: PhysicsState
    goal: Array
    alive: Array
    lost: Array


def begin(task: Task, physics: Physics, start: Start) -> Playing:
    """Episodes before their first step."""
    state = physics.init(start.qpos, start.qvel)
    return playing_on(state, task.current_goal(state, start.goal))


def playing_on(state: PhysicsState, goal: Array) -> Playing:
    """Episodes that go on from a state in which all are alive, told `goal [envs, goal]`."""
    alive = jnp.ones(goal.shape[0], bool)
    return Playing(state, goal, alive, ~alive)


def play_step(
    task: Task, physics: Physics, playing: Playing, action: Array
) -> tuple[Playing, tuple[Array, ...]]:
    """One control step with `action [envs, action]`, and what `Episodes` keeps of it, in order.

    An environment that diverges is put back to where it was before and never moves again: neither a
    policy nor a score meets a number that is not finite.
    """
    stepped = physics.step(playing.physics, action)
    goal = task.current_goal(stepped, playing.goal)
    lost = playing.lost | ~is_sound(task, stepped, goal)
    state = held(lost, playing.physics, stepped)
    goal = jnp.where(lost[:, None], playing.goal, goal)
    alive = playing.alive & ~lost & ~has_ended(task, state)
    achieved, qpos = task.achieved_goal(state), state.qpos[:RECORDED_ENVS]
    seen = goal, achieved, alive, qpos, playing.alive & lost
    return Playing(state, goal, alive, lost), seen


def episode_metrics(task: Task, episodes: Episodes) -> dict[str, float]:
    """Scores of episodes; distances are in the goal's unit, times in control steps.

    time_at_goal: mean steps within the success radius (the headline). success, easy_success,
    hard_success: share of episodes with any step within the radius, the easy and the hard radius.
    An episode that ended early keeps the distance of its last step and collects no more time.
    survival, diverged: share of episodes that did not end early, and whose environment diverged.
    path_efficiency: of the successful episodes, the shortest way over the way taken to the goal. In
    mazes, also the success for every length of the shortest path from start to goal, in cells, and
    for every task of a maze that has tasks.
    behaviour/...: the task's own measures, of the recorded environments.
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
        shortest = lengths * task.maze.cell_size
    if success.any():
        efficiency = path_efficiency(episodes, _at_goal(task, episodes), shortest)
        metrics["path_efficiency"] = efficiency[success].mean()
    recorded = np.asarray(episodes.qpos)
    measures = task.behaviour(recorded, alive[:, : recorded.shape[1]])
    metrics |= {f"behaviour/{name}": value for name, value in measures.items()}
    return {name: float(value) for name, value in metrics.items()}


def episode_scores(task: Task, episodes: Episodes) -> dict[str, np.ndarray]:
    """Those of `episode_metrics` that every single episode has, `[envs]` each."""
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
    """Whether an episode goes on and is within the success radius, `[time, envs]`."""
    close = np.asarray(is_success(task, episodes.achieved, episodes.goal))
    return np.logical_and(np.asarray(episodes.alive), close)


def path_efficiency(episodes: Episodes, at_goal: np.ndarray, shortest: np.ndarray) -> np.ndarray:
    """The shortest way over the way taken until first at the goal, in 0 to 1, `[envs]`.

    at_goal `[time, envs]`, shortest `[envs]` in the goal's unit. A way taken that is shorter,
    for the radius or a corner cut, counts as 1.
    """
    first = np.argmax(at_goal, axis=0)
    places = np.concatenate([episodes.start[None], episodes.achieved])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    taken = np.where(np.arange(len(steps))[:, None] <= first, steps, 0).sum(0)
    return shortest / np.maximum(shortest, np.maximum(taken, 1e-9))
