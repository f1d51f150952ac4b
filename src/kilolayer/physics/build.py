"""From a world's description to the engine that steps it."""

from typing import Literal

import jax

from kilolayer.physics.base import Physics
from kilolayer.physics.kinematic import KinematicPhysics, PointWorld
from kilolayer.physics.mjx import MjxPhysics
from kilolayer.physics.native import MujocoWorld, NativePhysics
from kilolayer.types import bad_field

World = PointWorld | MujocoWorld


def build_physics(
    world: World,
    num_worlds: int,
    engine: Literal["auto", "native", "mjx"] = "auto",
    mjx_impl: Literal["jax", "warp"] = "jax",
) -> Physics:
    """The engine for `num_worlds` copies of `world`; `auto` takes MJX where JAX finds a GPU.

    Raises UserError if the engine is not installed or cannot step this world.
    """
    if isinstance(world, PointWorld):
        if engine != "auto":
            raise bad_field("physics", engine, "a point world has an engine of its own", "auto")
        return KinematicPhysics(world)
    if engine == "auto":
        engine = "mjx" if jax.default_backend() == "gpu" else "native"
    if engine == "mjx":
        return MjxPhysics(world, num_worlds, mjx_impl)
    return NativePhysics(world, num_worlds)
