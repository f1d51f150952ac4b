"""A point mass among walls, in plain JAX: a first experiment takes seconds instead of minutes."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.types import Array


@dataclass(frozen=True)
class PointWorld:
    """Unit cells; `walls[i, j]` covers x in i +- 0.5 and y in j +- 0.5.

    The point accelerates by `acceleration` times its control, against a drag, so that its speed
    along each axis is at most acceleration / drag units per second. control_step in seconds.
    """

    walls: tuple[tuple[bool, ...], ...]
    control_step: float = 0.1
    acceleration: float = 6.0
    drag: float = 3.0
    radius: float = 0.1


class KinematicPhysics(Physics):
    """Semi-implicit Euler steps; a wall stops the velocity component that points into it."""

    def __init__(self, world: PointWorld):
        self.world = world
        self._walls = np.array(world.walls)

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        return PhysicsState(qpos, qvel, {}, jnp.zeros((qpos.shape[0], 0), jnp.uint32))

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        world, position = self.world, state.qpos
        force = world.acceleration * control - world.drag * state.qvel
        velocity = state.qvel + world.control_step * force
        # One axis after the other, so that a point slides along a wall.
        for axis in range(2):
            moved = position.at[:, axis].add(world.control_step * velocity[:, axis])
            position, stopped = self._stop_at_walls(position, moved, axis)
            velocity = velocity.at[:, axis].set(jnp.where(stopped, 0.0, velocity[:, axis]))
        return PhysicsState(position, velocity, {}, state.engine)

    def _stop_at_walls(self, before: Array, after: Array, axis: int) -> tuple[Array, Array]:
        """Clamp the move along one axis to the face of the wall that its leading edge enters."""
        direction = jnp.sign(after[:, axis] - before[:, axis])
        edge = after.at[:, axis].add(direction * self.world.radius)
        cell = jnp.round(edge).astype(jnp.int32)
        limits = jnp.array(self._walls.shape) - 1
        cell = jnp.clip(cell, 0, limits)
        blocked = jnp.asarray(self._walls)[cell[:, 0], cell[:, 1]]
        face = cell[:, axis] - direction * (0.5 + self.world.radius)
        stopped = jnp.where(blocked, face, after[:, axis])
        return after.at[:, axis].set(stopped), blocked
