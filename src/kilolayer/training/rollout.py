"""Worlds that act: one control step, and an unroll of many."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.base import Task
from kilolayer.types import Array

# (observation [worlds, observation], goal [worlds, goal], key) -> action [worlds, action]
Policy = Callable[[Array, Array, Array], Array]


class WorldState(eqx.Module):
    """All worlds between two control steps.

    goal `[worlds, goal]`: what each was told to reach. age `[worlds]`: control steps since reset.
    """

    physics: PhysicsState
    goal: Array
    age: Array


def start_worlds(task: Task, physics: Physics, key: Array, goal: Array) -> WorldState:
    """Fresh worlds that are told to reach `goal [worlds, goal]`."""
    num_worlds = goal.shape[0]
    return WorldState(
        physics=physics.init(*task.reset(key, num_worlds)),
        goal=goal,
        age=jnp.zeros(num_worlds, jnp.int32),
    )


def restart_ended(
    task: Task, physics: Physics, worlds: WorldState, ended: Array, key: Array
) -> WorldState:
    """Reset the worlds whose episode `ended [worlds]` and give them new goals."""
    num_worlds = ended.shape[0]

    def fresh() -> WorldState:
        reset_key, goal_key = jax.random.split(key)
        goal = task.sample_goal(goal_key, num_worlds, "training")
        return WorldState(
            physics=physics.reset(worlds.physics, ended, *task.reset(reset_key, num_worlds)),
            goal=jnp.where(ended[:, None], goal, worlds.goal),
            age=jnp.where(ended, 0, worlds.age),
        )

    return jax.lax.cond(jnp.any(ended), fresh, lambda: worlds)


def unroll(
    task: Task,
    physics: Physics,
    worlds: WorldState,
    policy: Policy,
    key: Array,
    length: int,
    episode_length: int,
) -> tuple[WorldState, Transition]:
    """Act for `length` control steps; worlds whose episode ends start anew at once.

    Returns the worlds afterwards and the trajectory, leaves `[length, worlds, ...]`.
    """

    def control_step(worlds: WorldState, key: Array) -> tuple[WorldState, Transition]:
        action_key, restart_key = jax.random.split(key)
        observation = task.observe(worlds.physics)
        action = policy(observation, worlds.goal, action_key)
        step = Transition(
            observation=observation,
            action=action,
            achieved_goal=task.achieved_goal(worlds.physics),
            goal=worlds.goal,
            age=worlds.age,
        )
        stepped = WorldState(physics.step(worlds.physics, action), worlds.goal, worlds.age + 1)
        ended = task.terminated(stepped.physics) | (stepped.age >= episode_length)
        return restart_ended(task, physics, stepped, ended, restart_key), step

    return jax.lax.scan(control_step, worlds, jax.random.split(key, length))
