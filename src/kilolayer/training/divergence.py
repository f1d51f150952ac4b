"""Environments that diverge: how one is recognised, and how many a run forgives.

While training such an environment is reset as if its episode had ended
(`kilolayer.training.rollout`); in an evaluation it stands still from then on
(`kilolayer.training.evaluate`). Every engine alike.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Task
from kilolayer.types import Array

# An environment that shows or carries a larger number has diverged. MuJoCo draws the line here too
# (mjMAXVAL), and networks still compute with such numbers: their squares are finite in float32.
LARGEST = 1e10
# A run stops if more of its environments diverge within one unroll; a single one never stops it.
LARGEST_SHARE = 0.1
# The metric: how often an environment diverged in an unroll.
DIVERGED_METRIC = "collect/diverged"


def is_sound(task: Task, state: PhysicsState, goal: Array) -> Array:
    """Whether all that an environment shows and carries is finite and no larger than `LARGEST`,
    `[envs]`; `goal [envs, goal]` is what it is told now."""
    shown = (task.observe(state), task.achieved_goal(state), goal)
    numbers = [
        leaf for leaf in jax.tree.leaves((state, shown)) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    # NaN is not smaller than anything.
    sound = (jnp.all(jnp.abs(leaf) <= LARGEST, tuple(range(1, leaf.ndim))) for leaf in numbers)
    return reduce(jnp.logical_and, sound)


def held(lost: Array, before: PhysicsState, after: PhysicsState) -> PhysicsState:
    """The state `before` of the environments that are `lost [envs]`, and `after` of all others."""

    def choose(old: Array, new: Array) -> Array:
        return jnp.where(lost.reshape(-1, *(1,) * (new.ndim - 1)), old, new)

    return jax.tree.map(choose, before, after)


def most_forgiven(num_envs: int) -> float:
    """How often environments may diverge within one unroll before a run stops."""
    return max(1.0, LARGEST_SHARE * num_envs)


def way_out_of_divergence(task: Task) -> str:
    """A sentence on what to change so that environments stay finite."""
    if isinstance(task.world, MujocoWorld):
        return (
            "Give the model a smaller time step, or its actuators smaller gains or ranges; or "
            "look for a division by zero in what the task observes."
        )
    return f"Correct the environment: what it observes must be finite and below {LARGEST:g}."
