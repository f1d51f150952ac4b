"""Devices: data sheets of accelerators, memory of this machine, and a check of JAX's results."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kilolayer.errors import UserError, bad_field, nearest

# Name of this machine, for any backend of JAX.
THIS_MACHINE = "cpu"

# Files with the memory limit of a container: control groups of version 2 and 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

# CPU programs of this version return wrong sums: github.com/jax-ml/jax/issues/39103.
WRONG_JAXLIB = "0.10.2"


@dataclass(frozen=True)
class Accelerator:
    """Limits of one device.

    memory: bytes. float32, tf32, bfloat16: peak rate of dense matrix products with float32
    accumulation, in floating-point operations per second; None without such a unit. bandwidth: of
    the memory, in bytes per second.
    """

    title: str
    memory: float
    float32: float
    tf32: float | None
    bfloat16: float | None
    bandwidth: float
    source: str

    def rate(self, compute_dtype: str) -> float | None:
        """Operations per second in a number format; JAX computes float32 products in TF32."""
        return self.bfloat16 if compute_dtype == "bfloat16" else self.tf32 or self.float32


H100 = "NVIDIA H100 datasheet; dense rates are half of those with sparsity"
A100 = "NVIDIA A100 datasheet, without sparsity"

ACCELERATORS = {
    "h100-80g": Accelerator("H100 SXM", 80e9, 67e12, 494e12, 989e12, 3.35e12, H100),
    "h200-141g": Accelerator(
        "H200 SXM", 141e9, 67e12, 494e12, 989e12, 4.8e12, "NVIDIA H200 datasheet; as for the H100"
    ),
    "a100-40g": Accelerator("A100 SXM", 40e9, 19.5e12, 156e12, 312e12, 1.555e12, A100),
    "a100-80g": Accelerator("A100 SXM", 80e9, 19.5e12, 156e12, 312e12, 2.039e12, A100),
    "l40s": Accelerator(
        "L40S", 48e9, 91.6e12, 183e12, 362e12, 0.864e12, "NVIDIA L40S datasheet, without sparsity"
    ),
    "rtx4090": Accelerator(
        "GeForce RTX 4090", 24e9, 82.6e12, 82.6e12, 165.2e12, 1.008e12,
        "NVIDIA Ada GPU architecture white paper, appendix A",
    ),
    "rtx3090": Accelerator(
        "GeForce RTX 3090", 24e9, 35.6e12, 35.6e12, 71e12, 0.936e12,
        "NVIDIA Ampere GA102 architecture white paper, appendix A",
    ),
    "v100-32g": Accelerator(
        "V100 SXM2", 32e9, 15.7e12, None, None, 0.9e12, "NVIDIA V100 datasheet"
    ),
}  # fmt: skip


def find_accelerator(name: str) -> Accelerator | None:
    """The accelerator of that name, None for this machine; raises UserError with the nearest."""
    names = [*ACCELERATORS, THIS_MACHINE]
    if name not in names:
        allowed = f"one of {', '.join(names)} ({THIS_MACHINE} is this machine)"
        raise bad_field("device", name, allowed, nearest(name, names))
    return ACCELERATORS.get(name)


def refuse_wrong_jax() -> None:
    """Raise UserError if this JAX returns wrong sums: jaxlib 0.10.2 on a CPU.

    Call it after the processes of a program are connected, because it may query JAX's devices.
    """
    if version("jaxlib") != WRONG_JAXLIB:
        return
    import jax

    if jax.default_backend() == "cpu":
        raise UserError(
            f"jaxlib {WRONG_JAXLIB} returns wrong sums on a CPU, without an error: "
            f"`pip install 'jax!={WRONG_JAXLIB}'` installs another version."
        )


def local_memory() -> int:
    """Bytes of one device of this machine; all devices of a processor share its memory."""
    import jax

    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit") or host_memory()


def host_memory() -> int:
    """Bytes of this machine's memory, or the limit of its container."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # another system, or no limit
            found = min(found, int(Path(limit).read_text(encoding="utf-8")))
    return found


def gibibytes(size: float) -> str:
    """Bytes as text in GiB."""
    return f"{size / 2**30:,.3g} GiB" if size < 1e15 else f"{size / 2**30:.3g} GiB"


def require_memory(field: str, value: int, each: float) -> None:
    """Raises UserError if `value` times `each` bytes exceed this machine's memory."""
    available = host_memory()
    if value * each > available:
        needed = gibibytes(value * each)
        allowed = f"it takes {needed} at least, and this machine has {gibibytes(available)}"
        raise bad_field(field, value, allowed, int(0.5 * available / each))


def require_width(width: int, layers: int) -> None:
    """Raises UserError if this many layers of the width, with what trains them, are more bytes than
    this machine has."""
    room = host_memory()
    each = 16 * layers  # a weight, its gradient and the optimiser's two moments, in float32
    if each * width**2 > room:
        allowed = (
            f"its weights take {gibibytes(each * width**2)} at least, and this machine has "
            f"{gibibytes(room)}"
        )
        raise bad_field("width", width, allowed, int((0.5 * room / each) ** 0.5))


def resident_bytes() -> int:
    """Peak memory of this process, in bytes."""
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
