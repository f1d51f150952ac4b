"""Evaluation of policies that follow instructions, on the goals that the instructions mean."""

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
from kilolayer.physics.base import Physics
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import Task, is_success
from kilolayer.training.evaluate import (
    Episodes,
    EpisodeStart,
    episode_scores,
    evaluation_key,
    evaluation_start,
    play_episodes,
)
from kilolayer.types import Array

SCORES = ("success", "time_at_goal", "hard_success", "final_distance", "smallest_distance")


class ConditionedPolicy(Protocol):
    """A policy with one condition per episode, such as a goal or an instruction embedding.

    A frozen value without arrays. Its arrays are the `state`.
    """

    def begin(self, state: Any, condition: Any) -> Any:
        """The memory before the first step. Leaves of both arguments and the result `[envs, ...]`,
        except those of the state."""
        ...

    def act(self, state: Any, memory: Any, observation: Array) -> tuple[Array, Any]:
        """Actions `[envs, action]` for `observation [envs, observation]`, and the new memory."""
        ...


@dataclass(frozen=True)
class GoalPolicy:
    """A goal-reaching agent. The condition is the commanded goal of each episode."""

    agent: ActingAgent

    def begin(self, state: Any, condition: Array) -> Array:
        return jnp.asarray(condition)

    def act(self, state: Any, memory: Array, observation: Array) -> tuple[Array, Array]:
        key = jax.random.key(0)  # not used by a deterministic action
        return self.agent.act(state, observation, memory, key, deterministic=True), memory


@dataclass(frozen=True)
class ModulePolicy:
    """An action module. Its arrays are the state, the condition is the embedding of each episode's
    instruction, and the memory is the embedding and the chunk."""

    def begin(self, state: Any, condition: Array) -> tuple[Array, Any]:
        return jnp.asarray(condition), state.initial_carry(len(condition))

    def act(self, state: Any, memory: tuple[Array, Any], observation: Array) -> tuple[Array, Any]:
        embedding, chunk = memory
        action, chunk = state.act(chunk, observation, embedding)
        return action, (embedding, chunk)


@dataclass(frozen=True)
class EvaluationSet:
    """One episode per example, with the same starts and intended goals for every policy.

    config: of the policies' original run, for the physics. A policy's condition affects neither the
    starts nor what counts as success.
    """

    task: Task
    config: RunConfig
    examples: Sequence[Example]
    seed: int = 0

    def scores(self, policy: ConditionedPolicy, state: Any, condition: Any) -> dict[str, Any]:
        """Means over the episodes, and under `kinds` the means for each kind of instruction.

        condition: leaves `[examples, ...]`. Names and units: see `episode_metrics`. `hard_success`
        is there only if the task has it. `episodes` is the number of episodes.
        """
        found = episode_scores(self.task, self.play(policy)(state, condition))
        columns = {name: found[name] for name in SCORES if name in found}

        def means(rows: np.ndarray) -> dict[str, float]:
            return _means(columns, rows) | {"episodes": int(rows.sum())}

        return self._by_kind(means)

    def goal_scores(
        self, goals: np.ndarray, confidence: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Mean errors of predicted goals, over all examples and by kind as in `scores`.

        goal_error: distance from the intended goal, in the goal's unit. right: share within the
        success radius. confidence: the mean, to compare with `right`.
        """
        columns = {
            "goal_error": np.asarray(self.task.distance(jnp.asarray(goals), self.goal)),
            "right": np.asarray(is_success(self.task, goals, self.goal)),
        }
        if confidence is not None:
            columns["confidence"] = confidence
        return self._by_kind(lambda rows: _means(columns, rows))

    def _by_kind(self, means: Callable[[np.ndarray], dict[str, float]]) -> dict[str, Any]:
        """The means over all rows, and under `kinds` those over the rows of each kind."""
        kinds = np.array([example.kind for example in self.examples])
        by_kind = {str(kind): means(kinds == kind) for kind in np.unique(kinds)}
        return means(np.ones(len(kinds), bool)) | {"kinds": by_kind}

    def play(self, policy: ConditionedPolicy) -> Callable[[Any, Any], Episodes]:
        """`(state, condition) -> Episodes`, numpy, compiled at the first call."""
        run = conditioned_episodes(self.task, self.physics, policy, self.key)
        return lambda state, condition: jax.tree.map(np.asarray, run(state, condition, self.start))

    @cached_property
    def goal(self) -> Array:
        """The intended goals of the examples, `[examples, goal]`."""
        return jnp.array([example.goal for example in self.examples], jnp.float32)

    @cached_property
    def physics(self) -> Physics:
        return build_physics(self.task.world, len(self.examples), self.config.physics)

    @cached_property
    def key(self) -> Array:
        return evaluation_key(self.seed, 0)

    @cached_property
    def start(self) -> EpisodeStart:
        count = len(self.examples)
        return evaluation_start(self.task, self.key, count, "evaluation", self.goal)


def conditioned_episodes(
    task: Task, physics: Physics, policy: ConditionedPolicy, key: Array
) -> Callable[[Any, Any, EpisodeStart], Episodes]:
    """`(state, condition, start) -> Episodes`, compiled. key: the key of the start."""

    @jax.jit
    def run(state: Any, condition: Any, start: EpisodeStart) -> Episodes:
        def act(memory: Any, observation: Array, goal: Array, key: Array) -> tuple[Array, Any]:
            return policy.act(state, memory, observation)

        memory = policy.begin(state, condition)
        return play_episodes(task, physics, act, memory, key, start, task.episode_length)

    return run


def _means(columns: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
    return {name: float(column[rows].mean()) for name, column in columns.items()}


def derangement(count: int, seed: int) -> np.ndarray:
    """A permutation without fixed points: for each of `count` examples another one.

    It gives a shuffled control its conditions. Two examples may mean the same goal.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    other = np.empty(count, int)
    other[order] = np.roll(order, 1)
    return other
