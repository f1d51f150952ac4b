"""The interface of every engine: state in, state out."""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp

from kilolayer.types import Array


class PhysicsState(eqx.Module):
    """All environments at one instant; every leaf has a leading environment axis.

    qpos `[envs, nq]`, qvel `[envs, nv]`: generalised positions and velocities in MuJoCo's units (m,
    rad, s). fields: the derived quantities that the task requested, up to date with qpos and qvel.
    engine: a pytree of what the engine must carry to repeat its steps exactly.
    """

    qpos: Array
    qvel: Array
    fields: dict[str, Array]
    engine: Any


def select(mask: Array, chosen: PhysicsState, other: PhysicsState) -> PhysicsState:
    """The state `chosen` in the environments of `mask [envs]`, the state `other` elsewhere."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, chosen, other)


class Physics(Protocol):
    """An engine for a fixed number of environments. It has no hidden state, so equal inputs give
    equal outputs."""

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        """Environments in the state `qpos [envs, nq]`, `qvel [envs, nv]`, with derived fields."""
        ...

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        """Advance one control step with `control [envs, nu]` in [-1, 1]."""
        ...

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        """Set the environments of `mask [envs]` to `qpos`, `qvel`; leave the others unchanged."""
        return select(mask, self.init(qpos, qvel), state)
