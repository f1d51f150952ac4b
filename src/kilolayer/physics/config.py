"""The settings of the physics engine."""

from dataclasses import dataclass
from typing import Literal

from kilolayer.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PhysicsConfig(Settings):
    """Which engine steps MuJoCo's environments."""

    physics: Literal["auto", "native", "mjx"] = "auto"
    """Physics engine. `native` runs MuJoCo on all CPU cores and is what `auto` takes; `mjx` runs on
    the accelerator (extra `mjx`)."""
    mjx_impl: Literal["jax", "warp"] = "jax"
    """Implementation of MJX. `jax` runs anywhere; `warp` is faster on NVIDIA GPUs (extra
    `warp`)."""
