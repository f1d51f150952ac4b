"""From a world's description to the engine that steps it."""

from kilolayer.physics.base import Physics
from kilolayer.physics.gymnasium import GymnasiumPhysics, GymnasiumWorld
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.physics.native import MujocoWorld, NativePhysics

World = PointWorld | MujocoWorld | GymnasiumWorld


def build_physics(world: World, num_worlds: int) -> Physics:
    """The engine for `num_worlds` copies of `world`."""
    if isinstance(world, PointWorld):
        return KinematicPhysics(world)
    if isinstance(world, GymnasiumWorld):
        return GymnasiumPhysics(world, num_worlds)
    return NativePhysics(world, num_worlds)
