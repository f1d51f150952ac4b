"""Devices: what the makers of accelerators state of them, and whether JAX is right on this one."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kilolayer.errors import UserError, bad_field, nearest

# The machine at hand, whatever JAX computes on here.
THIS_MACHINE = "cpu"

# Files with the most memory that a container may take: control groups of version 2 and 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

# Its CPU programs return wrong sums without an error: github.com/jax-ml/jax/issues/39103.
WRONG_JAXLIB = "0.10.2"


@dataclass(frozen=True)
class Accelerator:
    """What one device can hold and do at most.

    memory in bytes; float32, tf32, bfloat16: matrix products of dense matrices with sums in
    float32, in floating-point operations a second, None where it has no such unit; bandwidth: of
    its memory, in bytes a second.
    """

    title: str
    memory: float
    float32: float
    tf32: float | None
    bfloat16: float | None
    bandwidth: float
    source: str

    def rate(self, compute_dtype: str) -> float | None:
        """Operations a second in a number format; JAX computes float32 products in TF32."""
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

    Call it once the processes of a program have met: it may ask JAX for the device.
    """
    if version("jaxlib") != WRONG_JAXLIB:
        return
    import jax

    if jax.default_backend() == "cpu":
        raise UserError(
            f"jaxlib {WRONG_JAXLIB} returns wrong sums on a CPU, without an error: "
            f"`pip install 'jax!={WRONG_JAXLIB}'` installs another version."
        )


def memory_here() -> int:
    """Bytes of one device of this machine; all devices of a processor share its memory."""
    import jax

    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit") or host_memory()


def host_memory() -> int:
    """Bytes of this machine's memory, or of the share of it that a container has."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # another system, or no limit
            found = min(found, int(Path(limit).read_text(encoding="utf-8")))
    return found


def gibibytes(size: float) -> str:
    """Bytes as a user reads them."""
    return f"{size / 2**30:,.3g} GiB" if size < 1e15 else f"{size / 2**30:.3g} GiB"


def require_memory(field: str, value: int, each: float) -> None:
    """Raises UserError if `value` times `each` bytes are more than this machine has."""
    room = host_memory()
    if value * each > room:
        allowed = (
            f"it takes {gibibytes(value * each)} at least, and this machine has {gibibytes(room)}"
        )
        raise bad_field(field, value, allowed, int(0.5 * room / each))


def resident_bytes() -> int:
    """The most memory that this process has held so far."""
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
