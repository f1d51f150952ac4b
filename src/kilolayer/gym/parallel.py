"""Batched step and reset of a task's environments, used by `TaskEnv` and `TaskVectorEnv`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.build import build_physics
from kilolayer.tasks.base import GoalSplit, Task, is_success
from kilolayer.tasks.gymnasium import task_spaces
from kilolayer.tasks.registry import make_task
from kilolayer.types import Array, UserError, bad_field


class State(eqx.Module):
    """All environments between two steps.

    key `[envs, 2]`: each environment draws its next episode from its own key.
    """

    physics: PhysicsState
    goal: Array
    episode_step: Array
    key: Array


class Outcome(eqx.Module):
    """The result of a step or reset, one entry per environment.

    Arrays on the host must not be written to. steps: control steps of the episode so far.
    """

    observation: dict[str, Any]
    success: Any
    terminated: Any
    truncated: Any
    steps: Any


class ParallelEnvs:
    """Environments of a task. Each environment's episodes depend only on its own seed."""

    def __init__(self, task: str | Task, num_envs: int, split: GoalSplit):
        task = make_task(task) if isinstance(task, str) else task
        if split not in ("training", "evaluation"):
            raise UserError(f"split = {split!r} is not allowed: it is training or evaluation.")
        if num_envs < 1:
            raise bad_field("num_envs", num_envs, "it must be at least 1", 1)
        self.task, self.num_envs = task, num_envs
        self._split: GoalSplit = split
        self._physics = build_physics(task.world, num_envs)
        self._begin, self._step = jax.jit(self._begin_all), jax.jit(self._step_all)
        self._state: State | None = None
        self.spaces = task_spaces(task)

    @property
    def state(self) -> State:
        if self._state is None:
            raise UserError("the environment has not begun an episode: call reset() first.")
        return self._state

    def begin(
        self, seed: int | None, options: dict[str, Any] | None, generator: np.random.Generator
    ) -> Outcome:
        """Begin an episode in every environment.

        Environment i uses `seed + i`; without a seed, it continues with its current key. The first
        time without a seed, `generator` draws one.
        """
        if seed is None and self._state is None:
            seed = int(generator.integers(2**62))
        if seed is None:
            key = self.state.key
        else:
            # SeedSequence uses all bits of a seed of any size.
            seeds = [np.random.SeedSequence(seed + index) for index in range(self.num_envs)]
            key = np.stack([entropy.generate_state(2) for entropy in seeds])
        self._state, outcome = self._begin(key, self._goal_option(options))
        return jax.device_get(outcome)

    def step(self, actions: np.ndarray, restart: np.ndarray) -> Outcome:
        """One control step with `actions [envs, action]`; environments in `restart [envs]` reset
        instead."""
        shape = (self.num_envs, self.task.action_dim)
        if actions.shape != shape:
            raise UserError(f"actions of the shape {actions.shape} do not fit: they need {shape}.")
        self._state, outcome = self._step(self.state, actions, restart)
        return jax.device_get(outcome)

    def reward(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """0 within the success radius and -1 elsewhere, `[..., goal] -> [...]`."""
        return np.where(is_success(self.task, achieved, desired), 0.0, -1.0)

    def _goal_option(self, options: dict[str, Any] | None) -> np.ndarray | None:
        """The goals in a reset's options, `[envs, goal]`, or None. One goal `[goal]` is used for
        all environments."""
        if not options or "goal" not in options:
            return None
        goal = np.asarray(options["goal"], np.float32)
        shape = (self.num_envs, self.task.goal.dim)
        if goal.shape not in (shape, shape[1:]) or not np.isfinite(goal).all():
            raise UserError(
                f"the goal {goal.tolist()} is not allowed: task {self.task.name} takes "
                f"{shape[1]} finite numbers, or as many for each of {shape[0]} environments."
            )
        return np.broadcast_to(goal, shape)

    def _draw(self, key: Array, commanded: Array | None) -> tuple[Array, Array, Array, Array]:
        """Goal, qpos, qvel and next key of each environment, drawn from its own key alone."""

        def draw(key: Array, commanded: Array | None) -> tuple[Array, Array, Array, Array]:
            key, goal_key, start_key = jax.random.split(jax.random.wrap_key_data(key), 3)
            task, split = self.task, self._split
            goal = task.sample_goal(goal_key, 1, split) if commanded is None else commanded[None]
            qpos, qvel = task.reset(start_key, goal, split)
            return goal[0], qpos[0], qvel[0], jax.random.key_data(key)

        return jax.vmap(draw)(key, commanded)

    def _begin_all(self, key: Array, commanded: Array | None) -> tuple[State, Outcome]:
        goal, qpos, qvel, key = self._draw(key, commanded)
        state = State(self._physics.init(qpos, qvel), goal, jnp.zeros(len(goal), jnp.int32), key)
        return self._observe(state)

    def _step_all(self, state: State, actions: Array, restart: Array) -> tuple[State, Outcome]:
        physics = self._physics.step(state.physics, jnp.clip(actions, -1.0, 1.0))

        def with_resets() -> State:
            goal, qpos, qvel, key = self._draw(state.key, None)
            each = restart[:, None]
            return State(
                self._physics.reset(physics, restart, qpos, qvel),
                jnp.where(each, goal, state.goal),
                jnp.where(restart, 0, state.episode_step + 1),
                jnp.where(each, key, state.key),
            )

        def without_resets() -> State:
            return State(physics, state.goal, state.episode_step + 1, state.key)

        return self._observe(jax.lax.cond(jnp.any(restart), with_resets, without_resets))

    def _observe(self, state: State) -> tuple[State, Outcome]:
        task, physics = self.task, state.physics
        goal, achieved = task.current_goal(physics, state.goal), task.achieved_goal(physics)
        observation = {
            "observation": task.observe(physics),
            "achieved_goal": achieved,
            "desired_goal": goal,
        }
        success = is_success(task, achieved, goal)
        terminated, truncated = task.terminated(physics), task.truncated(physics)
        outcome = Outcome(observation, success, terminated, truncated, state.episode_step)
        return State(physics, goal, state.episode_step, state.key), outcome
