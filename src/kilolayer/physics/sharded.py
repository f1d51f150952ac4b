"""One engine for the environments of many devices: each device steps its share."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.runtime.mesh import DATA
from kilolayer.types import Array


class ShardedPhysics:
    """Runs `share`, an engine for one device's environments, on every device of the mesh.

    XLA cannot split a call to the host, nor a loop that ends when the last environment is done.
    """

    def __init__(self, share: Physics, mesh: Mesh):
        self.share, self.mesh = share, mesh

    def init(self, qpos: Array, qvel: Array) -> PhysicsState:
        return self._on_each_device(self.share.init)(qpos, qvel)

    def step(self, state: PhysicsState, control: Array) -> PhysicsState:
        return self._on_each_device(self.share.step)(state, control)

    def reset(self, state: PhysicsState, mask: Array, qpos: Array, qvel: Array) -> PhysicsState:
        return self._on_each_device(self.share.reset)(state, mask, qpos, qvel)

    def _on_each_device(self, function: Callable[..., PhysicsState]) -> Callable[..., Any]:
        envs = PartitionSpec(DATA)
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=envs, out_specs=envs, check_vma=False
        )
