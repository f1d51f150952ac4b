"""Rollouts: resets, goal resampling, and an unroll of many control steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.training.divergence import is_valid
from kilolayer.types import Array

# (observation [envs, observation], goal [envs, goal], key) -> action [envs, action]
Policy = Callable[[Array, Array, Array], Array]
# (state in which the action was taken, transition) -> the record of a step
Recorder = Callable[[PhysicsState, Transition], Any]


class EnvState(eqx.Module):
    """All environments between two control steps.

    goal `[envs, goal]`: commanded goals. episode_step `[envs]`: control steps since the reset.
    """

    physics: PhysicsState
    goal: Array
    episode_step: Array


class CutOff(NamedTuple):
    """The steps after which an episode was cut off without terminating, `[length, envs]` each:
    because its environment diverged, or because it was truncated."""

    diverged: Array
    truncated: Array

    @property
    def either(self) -> Array:
        return self.diverged | self.truncated


def reset(task: Task, physics: Physics, key: Array, goal: Array, split: GoalSplit) -> EnvState:
    """New environments with the commanded `goal [envs, goal]`, sampled from `split`."""
    state = physics.init(*task.reset(key, goal, split))
    episode_step = jnp.zeros(goal.shape[0], jnp.int32)
    return EnvState(state, task.current_goal(state, goal), episode_step)


def auto_reset(task: Task, physics: Physics, envs: EnvState, ended: Array, key: Array) -> EnvState:
    """Reset the environments whose episode `ended [envs]` and give them new goals."""
    num_envs = ended.shape[0]

    def with_resets() -> EnvState:
        reset_key, goal_key = jax.random.split(key)
        goal = task.sample_goal(goal_key, num_envs, "training")
        state = physics.reset(envs.physics, ended, *task.reset(reset_key, goal, "training"))
        return EnvState(
            physics=state,
            goal=jnp.where(ended[:, None], goal, envs.goal),
            episode_step=jnp.where(ended, 0, envs.episode_step),
        )

    return jax.lax.cond(jnp.any(ended), with_resets, lambda: envs)


def resample_goals(task: Task, envs: EnvState, interval: int, key: Array) -> EnvState:
    """New goals for the environments whose episode step is a positive multiple of `interval`."""
    due = (envs.episode_step > 0) & (envs.episode_step % interval == 0)
    goal = task.sample_goal(key, due.shape[0], "training")
    goal = jnp.where(due[:, None], goal, envs.goal)
    return eqx.tree_at(lambda each: each.goal, envs, goal)


def unroll(
    task: Task,
    physics: Physics,
    envs: EnvState,
    policy: Policy,
    key: Array,
    length: int,
    episode_length: int,
    goal_interval: int | None = None,
    record: Recorder = lambda _, step: step,
) -> tuple[EnvState, Any, CutOff]:
    """Act for `length` control steps; environments whose episode ends are reset at once.

    goal_interval: control steps after which an environment gets a new goal; None: never. Returns
    the environments afterwards, the records (default: the trajectory), leaves
    `[length, envs, ...]`, and the cut-offs. An environment that diverged is reset too, so its
    diverged state is never recorded.
    """

    def control_step(envs: EnvState, key: Array) -> tuple[EnvState, Any]:
        action_key, reset_key, goal_key = jax.random.split(key, 3)
        observation = task.observe(envs.physics)
        action = policy(observation, envs.goal, action_key)
        step = Transition(
            observation=observation,
            action=action,
            achieved_goal=task.achieved_goal(envs.physics),
            goal=envs.goal,
            episode_step=envs.episode_step,
        )
        recorded = record(envs.physics, step)
        stepped = EnvState(physics.step(envs.physics, action), envs.goal, envs.episode_step + 1)
        goal = task.current_goal(stepped.physics, stepped.goal)
        diverged = ~is_valid(task, stepped.physics, goal)
        terminated = task.terminated(stepped.physics)
        truncated = task.truncated(stepped.physics) & ~terminated & ~diverged
        ended = terminated | truncated | (stepped.episode_step >= episode_length) | diverged
        envs = auto_reset(task, physics, stepped, ended, reset_key)
        if goal_interval is not None:
            envs = resample_goals(task, envs, goal_interval, goal_key)
        goal = task.current_goal(envs.physics, envs.goal)
        envs = eqx.tree_at(lambda each: each.goal, envs, goal)
        return envs, (recorded, CutOff(diverged, truncated))

    keys = jax.random.split(key, length)
    envs, (recorded, cut_off) = jax.lax.scan(control_step, envs, keys)
    return envs, recorded, cut_off
