"""Environments that diverge: their detection, and the number that a run tolerates.

Training resets such an environment as if its episode had ended (`kilolayer.training.rollout`); an
evaluation freezes it (`kilolayer.training.evaluate`). This holds for every engine.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from kilolayer.physics.base import PhysicsState
from kilolayer.physics.native import MujocoWorld
from kilolayer.tasks.base import Task
from kilolayer.types import Array

# An environment with a larger value in its state or observation has diverged. MuJoCo has the same
# limit (mjMAXVAL), and networks can compute with such values: their squares are finite in float32.
MAX_VALUE = 1e10
# A run stops if a larger share of its environments diverges within one unroll; one environment
# never stops it.
MAX_DIVERGED_SHARE = 0.1
# Metric: number of divergences in an unroll.
DIVERGED_METRIC = "collect/diverged"


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
