"""The settings of the physics engine."""

from dataclasses import dataclass
from typing import Literal

from kilolayer.settings import Count, Settings


@dataclass(frozen=True, kw_only=True)
class PhysicsConfig(Settings):
    """The engine that steps the environments."""

    physics: Literal["auto", "native", "mjx"] = "auto"
    """Physics engine. `auto` takes `native`, which runs MuJoCo on all CPU cores. `mjx` runs on the
    accelerator (extra `mjx`). Set `mjx` if the CPU has few cores."""
    mjx_impl: Literal["jax", "warp"] = "jax"
    """Implementation of MJX. `jax` runs anywhere. Set `warp` to try MuJoCo Warp on an NVIDIA GPU
    (extra `warp`); its speed was not measured here."""
    gym_processes: Count | None = None
    """Processes that step the environments of --gym. Default: one per core. The results are the
    same for any number. Set 1 to step them in this process, for a script without a main guard."""
