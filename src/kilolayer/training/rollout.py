"""Worlds that act: one control step, and an unroll of many."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.replay.buffer import Transition
from kilolayer.tasks.base import GoalSplit, Task
from kilolayer.types import Array

# (observation [worlds, observation], goal [worlds, goal], key) -> action [worlds, action]
Policy = Callable[[Array, Array, Array], Array]


class WorldState(eqx.Module):
    """All worlds between two control steps.

    goal `[worlds, goal]`: what each was told to reach. age `[worlds]`: control steps since reset.
    anchor `[worlds, goal]`: what it had achieved when it last had moved by the success radius, and
    anchor_age `[worlds]` its age then.
    """

    physics: PhysicsState
    goal: Array
    age: Array
    anchor: Array
    anchor_age: Array


def start_worlds(
    task: Task, physics: Physics, key: Array, goal: Array, split: GoalSplit
) -> WorldState:
    """Fresh worlds that are told to reach `goal [worlds, goal]`, drawn from `split`."""
    state = physics.init(*task.reset(key, goal, split))
    age = jnp.zeros(goal.shape[0], jnp.int32)
    goal = task.current_goal(state, goal)
    return WorldState(state, goal, age, anchor=task.achieved_goal(state), anchor_age=age)


def restart_ended(
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
            anchor=jnp.where(ended[:, None], task.achieved_goal(state), worlds.anchor),
            anchor_age=jnp.where(ended, 0, worlds.anchor_age),
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
    stall_length: int | None = None,
) -> tuple[WorldState, Transition]:
    """Act for `length` control steps; worlds whose episode ends start anew at once.

    stall_length: control steps without moving by the success radius that end an episode early.
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
        stepped = _moved_on(task, worlds, physics.step(worlds.physics, action))
        ended = task.terminated(stepped.physics) | (stepped.age >= episode_length)
        if stall_length is not None:
            ended |= stepped.age - stepped.anchor_age >= stall_length
        worlds = restart_ended(task, physics, stepped, ended, restart_key)
        goal = task.current_goal(worlds.physics, worlds.goal)
        return eqx.tree_at(lambda each: each.goal, worlds, goal), step

    return jax.lax.scan(control_step, worlds, jax.random.split(key, length))


def _moved_on(task: Task, worlds: WorldState, state: PhysicsState) -> WorldState:
    """The worlds one control step later, in the physics state that it led to."""
    age, achieved = worlds.age + 1, task.achieved_goal(state)
    moved = task.distance(achieved, worlds.anchor) > task.goal.radius
    return WorldState(
        physics=state,
        goal=worlds.goal,
        age=age,
        anchor=jnp.where(moved[:, None], achieved, worlds.anchor),
        anchor_age=jnp.where(moved, age, worlds.anchor_age),
    )
