"""What every engine offers: state in, state out."""

from typing import Any, Protocol

import equinox as eqx

from kilolayer.types import Array


class PhysicsState(eqx.Module):
    """All environments at one instant; every leaf has a leading world axis.

    qpos `[envs, nq]`, qvel `[envs, nv]`: generalised positions and velocities in MuJoCo's
    units (m, rad, s). fields: the derived quantities that the task asked for, all up to date with
    qpos and qvel. engine: a pytree of whatever the engine must carry to repeat itself exactly.
    """

    qpos: Array
    qvel: Array
    fields: dict[str, Array]
    engine: Any


class Physics(Protocol):
    """An engine for a fixed number of environments. No hidden state: equal inputs give equal
    outputs."""

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        """Environments at rest in `qpos [envs, nq]`, `qvel [envs, nv]`, derived fields computed."""
        ...

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        """Advance one control step with `control [envs, nu]` in [-1, 1]."""
        ...

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        """Put the environments where `mask [envs]` holds to `qpos`, `qvel`; leave the others."""
        ...
