"""Scores of networks that follow instructions: the evaluation of training, on the meant goals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.agents.base import ActingAgent
from kilolayer.config import RunConfig
from kilolayer.language.base import Example
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import (
    RECORDED_ENVS,
    Episodes,
    EpisodeStart,
    episode_metrics,
    evaluation_key,
    evaluation_start,
    play_episodes,
)
from kilolayer.types import Array

SCORES = ("success", "time_at_goal", "hard_success", "final_distance", "smallest_distance")


class Follower(Protocol):
    """Acts on an input that each environment gets once per episode, such as a goal or a reading.

    A frozen value without arrays. Its arrays are the `state`.
    """

    def begin(self, state: Any, told: Any) -> Any:
        """The memory before the first step. Leaves of `told` and of the memory `[envs, ...]`."""
        ...

    def act(self, state: Any, memory: Any, observation: Array) -> tuple[Array, Any]:
        """Actions `[envs, action]` for `observation [envs, observation]`, and the new memory."""
        ...


@dataclass(frozen=True)
class Told:
    """A goal-reaching agent as a Follower. `told` are the commanded goals of whole episodes."""

    agent: ActingAgent

    def begin(self, state: Any, told: Array) -> Array:
        return jnp.asarray(told)

    def act(self, state: Any, memory: Array, observation: Array) -> tuple[Array, Array]:
        key = jax.random.key(0)  # not used by a deterministic action
        return self.agent.act(state, observation, memory, key, deterministic=True), memory


@dataclass(frozen=True)
class Acting:
    """An action module as a Follower. Its arrays are the state, `told` are the readings of sentence
    and picture, `[envs, reading]`, and the memory is the reading and the chunk.
    """

    def begin(self, state: Any, told: Array) -> tuple[Array, Any]:
        return jnp.asarray(told), state.begin(len(told))

    def act(self, state: Any, memory: tuple[Array, Any], observation: Array) -> tuple[Array, Any]:
        reading, chunk = memory
        action, chunk = state.act(chunk, observation, reading)
        return action, (reading, chunk)


@dataclass(frozen=True)
class Exam:
    """Plays one episode per example, with the same starts and meant goals for every follower.

    config: of the policies' original run, for the physics. A follower's input affects neither the
    starts nor what counts as success.
    """

    task: Task
    config: RunConfig
    examples: Sequence[Example]
    seed: int = 0

    def scores(self, follower: Follower, state: Any, told: Any) -> dict[str, Any]:
        """Means over the episodes, and under `kinds` the means for each kind of instruction.

        told: leaves `[examples, ...]`. Names and units: see `episode_metrics`. `hard_success` is
        there only if the task has it. `episodes` is the number of episodes.
        """
        episodes = self.play(follower)(state, told)
        kinds = np.array([example.kind for example in self.examples])
        return self._means(episodes, np.ones(len(kinds), bool)) | {
            "kinds": {str(kind): self._means(episodes, kinds == kind) for kind in np.unique(kinds)}
        }

    def goal_scores(self, told: np.ndarray, confidence: np.ndarray | None = None) -> dict[str, Any]:
        """Mean errors of predicted goals `told`, over all examples and by kind as in `scores`.

        goal_error: distance from the meant goal, in the goal's unit. right: share within the
        success radius. confidence: the mean, to compare with `right`.
        """
        columns = {
            "goal_error": np.asarray(self.task.distance(jnp.asarray(told), self.goal)),
            "right": np.asarray(is_success(self.task, told, self.goal)),
        }
        if confidence is not None:
            columns["confidence"] = confidence
        kinds = np.array([example.kind for example in self.examples])

        def means(rows: np.ndarray) -> dict[str, float]:
            return {name: float(column[rows].mean()) for name, column in columns.items()}

        by_kind = {str(kind): means(kinds == kind) for kind in np.unique(kinds)}
        return means(np.ones(len(kinds), bool)) | {"kinds": by_kind}

    def _means(self, episodes: Episodes, rows: np.ndarray) -> dict[str, float]:
        chosen = Episodes(
            episodes.start[rows],
            episodes.goal[:, rows],
            episodes.achieved[:, rows],
            episodes.alive[:, rows],
            episodes.qpos[:, : min(RECORDED_ENVS, int(rows.sum()))],
            episodes.diverged[:, rows],
        )
        metrics = episode_metrics(self.task, chosen)
        found = {name: metrics[name] for name in SCORES if name in metrics}
        return found | {"episodes": int(rows.sum())}

    def play(self, follower: Follower) -> Callable[[Any, Any], Episodes]:
        """`(state, told) -> Episodes`, numpy, compiled at the first call."""

        @jax.jit
        def run(state: Any, told: Any, start: EpisodeStart) -> Episodes:
            def policy(memory: Any, observation: Array, goal: Array, key: Array) -> tuple:
                return follower.act(state, memory, observation)

            memory = follower.begin(state, told)
            length = self.task.episode_length
            return play_episodes(self.task, self.physics, policy, memory, self.key, start, length)

        return lambda state, told: jax.tree.map(np.asarray, run(state, told, self.start))

    @cached_property
    def goal(self) -> Array:
        """The meant goals of the examples, `[examples, goal]`."""
        return jnp.array([example.goal for example in self.examples], jnp.float32)

    @cached_property
    def physics(self) -> Any:
        config = self.config
        return build_physics(
            self.task.world,
            len(self.examples),
            config.physics,
        )

    @cached_property
    def key(self) -> Array:
        return evaluation_key(self.seed, 0)

    @cached_property
    def start(self) -> EpisodeStart:
        count = len(self.examples)
        return evaluation_start(self.task, self.key, count, "evaluation", self.goal)


def others(count: int, seed: int) -> np.ndarray:
    """For each of `count` examples another one, each used once: the input of a shuffled control.

    No example is assigned to itself, but two examples may mean the same goal.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    other = np.empty(count, int)
    other[order] = np.roll(order, 1)
    return other
