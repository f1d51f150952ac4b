"""Rollouts: resets, goal resampling, and an unroll of many control steps.

Training resets an environment that diverges as if its episode had ended; an evaluation freezes it
(`kilolayer.training.evaluate`). This holds for every engine.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.types import Array

# An environment with a larger value in its state or observation has diverged. MuJoCo has the same
# limit (mjMAXVAL), and networks can compute with such values: their squares are finite in float32.
MAX_VALUE = 1e10
# A run stops if a larger share of its environments diverges within one unroll; one environment
# never stops it.
MAX_DIVERGED_SHARE = 0.1
# Metric: number of divergences in an unroll.
DIVERGED_METRIC = "collect/diverged"

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


def is_valid(task: Task, state: PhysicsState, goal: Array) -> Array:
    """Whether state, observation and goals of an environment are finite and no larger than
    `MAX_VALUE`, `[envs]`; goal `[envs, goal]`: the present commanded goal."""
    outputs = (task.observe(state), task.achieved_goal(state), goal)
    leaves = jax.tree.leaves((state, outputs))
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # The comparison is false for NaN.
    valid = (jnp.all(jnp.abs(leaf) <= MAX_VALUE, tuple(range(1, leaf.ndim))) for leaf in floats)
    return reduce(jnp.logical_and, valid)


def max_divergences(num_envs: int) -> float:
    """The number of divergences within one unroll that a run tolerates."""
    return max(1.0, MAX_DIVERGED_SHARE * num_envs)


def divergence_remedy(task: Task) -> str:
    """A sentence that says what to change so that environments stay finite."""
    if isinstance(task.world, MujocoWorld):
        return (
            "Give the model a smaller time step, or its actuators smaller gains or ranges; or "
            "look for a division by zero in the task's observation."
        )
    return f"Correct the environment: what it observes must be finite and below {MAX_VALUE:g}."
