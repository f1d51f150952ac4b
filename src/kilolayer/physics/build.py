"""Builds the engine that steps a world."""

from kilolayer.physics.base import Physics
from kilolayer.physics.config import PhysicsConfig
from kilolayer.physics.gymnasium import GymnasiumPhysics, GymnasiumWorld
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.physics.mjx import MjxPhysics
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.types import bad_field

World = PointWorld | MujocoWorld | GymnasiumWorld
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
