"""The motion of environments under random controls."""

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.physics.base import Physics
from kilolayer.tasks.base import Task, has_ended
from kilolayer.types import Array


class Motion(eqx.Module):
    """Environments under random controls, after each control step.

    observation `[time, envs, observation]`; achieved, goal `[time, envs, goal]`; alive
    `[time, envs]`: whether the episode had not ended by then.
    """

    observation: Array
    achieved: Array
    goal: Array
    alive: Array


def random_motion(
    task: Task, physics: Physics, goal: Array, key: Array, steps: int, hold: int = 1
) -> Motion:
    """Play `steps` control steps; each random control is held for `hold` of them.

    goal `[envs, goal]`: the commanded goals.
    """
    reset_key, control_key = jax.random.split(key)
    shape = (-(-steps // hold), goal.shape[0], task.action_dim)
    controls = jax.random.uniform(control_key, shape, minval=-1, maxval=1)
    controls = jnp.repeat(controls, hold, axis=0)[:steps]

    def control_step(carry: tuple, control: Array) -> tuple[tuple, Motion]:
        state, goal, alive = carry
        state = physics.step(state, control)
        goal, alive = task.current_goal(state, goal), alive & ~has_ended(task, state)
        recorded = Motion(task.observe(state), task.achieved_goal(state), goal, alive)
        return (state, goal, alive), recorded

    state = physics.init(*task.reset(reset_key, goal, "evaluation"))
    carry = state, task.current_goal(state, goal), jnp.ones(goal.shape[0], bool)
    return jax.lax.scan(control_step, carry, controls)[1]
