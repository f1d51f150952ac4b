"""From a world's description to the engine that steps it."""

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
    """The engine for `num_envs` copies of `world`; `auto` takes `native`, on a GPU too.

    Called from a GPU's program the cores still step faster than MJX does (`results/gpu`).
    Environments that are not MuJoCo's have an engine of their own. Raises UserError if MJX is asked
    for and does not step them, is not installed or cannot express this world.
    """
    engine = config.physics
    if isinstance(world, MujocoWorld):
        if engine == "mjx":
            return MjxPhysics(world, num_envs, config.mjx_impl)
        return NativePhysics(world, num_envs)
    if engine == "mjx":
        raise bad_field(
            "physics", engine, "it steps MuJoCo's environments and not this task's", "auto"
        )
    if isinstance(world, GymnasiumWorld):
        return GymnasiumPhysics(world, num_envs, config.gym_processes)
    return KinematicPhysics(world)
