"""Builds the engine that steps a world, on one device or on many."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from kilolayer.errors import bad_field
from kilolayer.physics.base import Physics, PhysicsState
from kilolayer.physics.config import PhysicsConfig
from kilolayer.physics.gymnasium import GymnasiumPhysics, GymnasiumWorld
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.physics.mjx import MjxPhysics
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.runtime.mesh import DATA
from kilolayer.types import Array

World = PointWorld | MujocoWorld | GymnasiumWorld
"""The model that an engine steps. Each environment of a run is a copy of it with its own state."""
DEFAULT = PhysicsConfig()


def build_physics(
    world: World,
    num_envs: int,
    config: PhysicsConfig = DEFAULT,
) -> Physics:
    """The engine for `num_envs` copies of `world`; `auto` takes `native`, also on a GPU.

    Even when a GPU program calls them, the CPU cores step faster than MJX (`results/gpu`). Worlds
    that are not MuJoCo models have their own engines. Raises UserError if MJX is chosen for such a
    world, is not installed or cannot express this world.
    """
    engine = config.physics
    if isinstance(world, MujocoWorld):
        if engine == "mjx":
            return MjxPhysics(world, num_envs, config.mjx_impl)
        return NativePhysics(world, num_envs)
    if engine == "mjx":
        raise bad_field(
            "physics", engine, "it steps MuJoCo models only, and this task has none", "auto"
        )
    if isinstance(world, GymnasiumWorld):
        return GymnasiumPhysics(world, num_envs, config.gym_processes)
    return KinematicPhysics(world)


def refuse_unused(config: PhysicsConfig, world: World) -> None:
    """Raises UserError for a setting that this world's engine does not read.

    Only for new runs: older ones may have such settings, and can be used.
    """
    if config.mjx_impl != "jax" and config.physics != "mjx":
        raise bad_field("mjx_impl", config.mjx_impl, "it needs --physics mjx", "jax")
    if config.gym_processes is not None and not isinstance(world, GymnasiumWorld):
        raise bad_field("gym_processes", config.gym_processes, "it needs --gym")


class ShardedPhysics:
    """One engine for the environments of many devices: each runs `share`, the engine of its own.

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
