"""What every engine offers: state in, state out."""

from typing import Any, Protocol

import equinox as eqx

from kilolayer.types import Array


class PhysicsState(eqx.Module):
    """All worlds at one instant; every leaf has a leading world axis.

    qpos `[worlds, nq]`, qvel `[worlds, nv]`: generalised positions and velocities in MuJoCo's
    units (m, rad, s). fields: the derived quantities that the task asked for, all up to date with
    qpos and qvel. engine: a pytree of whatever the engine must carry to repeat itself exactly.
    """

    qpos: Array
    qvel: Array
    fields: dict[str, Array]
    engine: Any


class Physics(Protocol):
    """An engine for a fixed number of worlds. No hidden state: equal inputs give equal outputs."""

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        """Worlds at rest in `qpos [worlds, nq]`, `qvel [worlds, nv]`, derived fields computed."""
        ...

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        """Advance one control step with `control [worlds, nu]` in [-1, 1]."""
        ...

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        """Put the worlds where `mask [worlds]` holds to `qpos`, `qvel`; leave the others."""
        ...
