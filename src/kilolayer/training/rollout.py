"""Worlds that act: one control step, and an unroll of many."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.training.divergence import is_sound
from kilolayer.types import Array

# (observation [worlds, observation], goal [worlds, goal], key) -> action [worlds, action]
Policy = Callable[[Array, Array, Array], Array]
# What to keep of a step, of the state that the action was taken in and the transition.
Recorder = Callable[[PhysicsState, Transition], Any]


class WorldState(eqx.Module):
    """All worlds between two control steps.

    goal `[worlds, goal]`: what each was told to reach. age `[worlds]`: control steps since reset.
    """

    physics: PhysicsState
    goal: Array
    age: Array


class CutOff(NamedTuple):
    """After which steps an episode was cut off, `[length, worlds]` each: because its world
    diverged, or because it was truncated, in both cases without having terminated."""

    diverged: Array
    truncated: Array

    @property
    def either(self) -> Array:
        return self.diverged | self.truncated


def start_worlds(
    task: Task, physics: Physics, key: Array, goal: Array, split: GoalSplit
) -> WorldState:
    """Fresh worlds that are told to reach `goal [worlds, goal]`, drawn from `split`."""
    state = physics.init(*task.reset(key, goal, split))
    age = jnp.zeros(goal.shape[0], jnp.int32)
    return WorldState(state, task.current_goal(state, goal), age)


def auto_reset(
    task: Task, physics: Physics, worlds: WorldState, ended: Array, key: Array
) -> WorldState:
    """Reset the worlds whose episode `ended [worlds]` and give them new goals."""
    num_worlds = ended.shape[0]

    def fresh() -> WorldState:
        reset_key, goal_key = jax.random.split(key)
        goal = task.sample_goal(goal_key, num_worlds, "training")
        state = physics.reset(worlds.physics, ended, *task.reset(reset_key, goal, "training"))
        return WorldState(
            physics=state,
            goal=jnp.where(ended[:, None], goal, worlds.goal),
            age=jnp.where(ended, 0, worlds.age),
        )

    return jax.lax.cond(jnp.any(ended), fresh, lambda: worlds)


def resample_goals(task: Task, worlds: WorldState, interval: int, key: Array) -> WorldState:
    """Another goal for the worlds whose episode is a multiple of `interval` steps old, not new."""
    due = (worlds.age > 0) & (worlds.age % interval == 0)
    goal = task.sample_goal(key, due.shape[0], "training")
    goal = jnp.where(due[:, None], goal, worlds.goal)
    return eqx.tree_at(lambda each: each.goal, worlds, goal)


def unroll(
    task: Task,
    physics: Physics,
    worlds: WorldState,
    policy: Policy,
    key: Array,
    length: int,
    episode_length: int,
    goal_interval: int | None = None,
    record: Recorder = lambda _, step: step,
) -> tuple[WorldState, Any, CutOff]:
    """Act for `length` control steps; worlds whose episode ends start anew at once.

    goal_interval: control steps after which a world is told another goal, by default never.
    Returns the worlds afterwards, what was recorded, by default the trajectory, leaves `[length,
    worlds, ...]`, and which episodes were cut off. A world that diverged starts anew too, so that
    nothing is recorded of the state that it was in.
    """

    def control_step(worlds: WorldState, key: Array) -> tuple[WorldState, Any]:
        action_key, restart_key, goal_key = jax.random.split(key, 3)
        observation = task.observe(worlds.physics)
        action = policy(observation, worlds.goal, action_key)
        step = Transition(
            observation=observation,
            action=action,
            achieved_goal=task.achieved_goal(worlds.physics),
            goal=worlds.goal,
            age=worlds.age,
        )
        recorded = record(worlds.physics, step)
        stepped = WorldState(physics.step(worlds.physics, action), worlds.goal, worlds.age + 1)
        goal = task.current_goal(stepped.physics, stepped.goal)
        diverged = ~is_sound(task, stepped.physics, goal)
        terminated = task.terminated(stepped.physics)
        truncated = task.truncated(stepped.physics) & ~terminated & ~diverged
        ended = terminated | truncated | (stepped.age >= episode_length) | diverged
        worlds = auto_reset(task, physics, stepped, ended, restart_key)
        if goal_interval is not None:
            worlds = resample_goals(task, worlds, goal_interval, goal_key)
        goal = task.current_goal(worlds.physics, worlds.goal)
        worlds = eqx.tree_at(lambda each: each.goal, worlds, goal)
        return worlds, (recorded, CutOff(diverged, truncated))

    keys = jax.random.split(key, length)
    worlds, (recorded, cut_off) = jax.lax.scan(control_step, worlds, keys)
    return worlds, recorded, cut_off
