"""Recorded steps of an agent: from the run's replay buffer, or from new episodes."""

from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from kilolayer.analysis.load import Run
from kilolayer.physics.build import build_physics
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import ProgressDisplay
from kilolayer.training.collect import CHUNK_STEPS, with_noise
from kilolayer.training.evaluate import evaluation_policy
from kilolayer.training.rollout import reset, unroll

# Without a buffer: number of environments that play one episode each, and their action noise.
NEW_ENVS, NEW_NOISE = 64, 0.2


@dataclass(frozen=True)
class RecordedSteps:
    """Steps in order of time.

    observation `[time, envs, observation]`; achieved_goal `[time, envs, goal]`; episode_step
    `[time, envs]`: control steps since the episode's reset.
    """

    observation: np.ndarray
    achieved_goal: np.ndarray
    episode_step: np.ndarray

    @cached_property
    def remaining(self) -> np.ndarray:
        """For each step, the number of later recorded steps of the same episode, `[time, envs]`."""
        found = np.zeros_like(self.episode_step)
        for time in range(len(found) - 2, -1, -1):
            same_episode = self.episode_step[time + 1] == self.episode_step[time] + 1
            found[time] = np.where(same_episode, found[time + 1] + 1, 0)
        return found

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """`(observation, achieved_goal)` of steps drawn uniformly, `[count, ...]`."""
        generator = np.random.default_rng(seed)
        time, env = (generator.integers(0, end, count) for end in self.episode_step.shape)
        return self.observation[time, env], self.achieved_goal[time, env]


def recorded_steps(run: Run, display: ProgressDisplay, seed: int = 0) -> RecordedSteps:
    """The replay buffer of the run's newest checkpoint, or one new episode in each of 64
    environments.

    Runs from a dataset and seeds that trained together have no buffer.
    """
    display.phase("recorded")
    return _from_buffer(run) or _from_new_episodes(run, display, seed)


def _from_buffer(run: Run) -> RecordedSteps | None:
    root = run.directory.checkpoints
    newest = checkpoint.latest(root)
    arrays = None if newest is None else checkpoint.stored_arrays(root, newest, checkpoint.LOOP)
    # The loop's state is a tuple whose first element is the buffer.
    if arrays is None or "0.inserted" not in arrays:
        return None
    names = ("observation", "achieved_goal", "episode_step")
    steps = [arrays[f"0.steps.{name}"] for name in names]
    inserted, capacity = int(arrays["0.inserted"]), len(steps[-1])
    oldest = inserted % capacity if inserted > capacity else 0
    in_order = (np.roll(array, -oldest, axis=0)[:inserted] for array in steps)
    return RecordedSteps(*in_order)


def _from_new_episodes(run: Run, display: ProgressDisplay, seed: int) -> RecordedSteps:
    task, config = run.task, run.config
    physics = build_physics(task.world, NEW_ENVS, config.physics)
    policy = with_noise(evaluation_policy(run.agent, run.agent_state, samples=1), NEW_NOISE)
    goal_key, env_key, key = jax.random.split(jax.random.key(seed), 3)
    goal = task.sample_goal(goal_key, NEW_ENVS, "training")
    envs = jax.jit(lambda: reset(task, physics, env_key, goal, "training"))()
    play = jax.jit(
        lambda envs, key: unroll(task, physics, envs, policy, key, CHUNK_STEPS, task.episode_length)
    )
    parts = []
    count = -(-task.episode_length // CHUNK_STEPS)
    for index in range(count):
        envs, part, _ = play(envs, jax.random.fold_in(key, index))
        parts.append(jax.device_get(part))
        display.advance(index + 1, count)
    names = ("observation", "achieved_goal", "episode_step")
    return RecordedSteps(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def farthest_points(places: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` well-spread places among `places [n, goal]`, `[count]`.

    Farthest-point selection (Gonzalez 1985), starting at the place nearest to the mean. Returns
    fewer than `count` if there are fewer distinct places.
    """
    first = np.linalg.norm(places - places.mean(0), axis=-1).argmin()
    chosen, gaps = [int(first)], np.linalg.norm(places - places[first], axis=-1)
    while len(chosen) < count and gaps.max() > 0:
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, np.linalg.norm(places - places[chosen[-1]], axis=-1))
    return np.array(chosen)
