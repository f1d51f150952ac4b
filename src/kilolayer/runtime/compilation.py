"""JAX's compilation cache, on by default: the second start of a run loads what the first compiled.

It lies in the user's cache folder and is bounded. `JAX_ENABLE_COMPILATION_CACHE=0` turns it off;
`JAX_COMPILATION_CACHE_DIR` puts it elsewhere. Programs that call MuJoCo or Gymnasium on the host
cannot be kept by JAX and compile each time.
"""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

MOST_BYTES = 2 * 2**30
LEAST_SECONDS = 0.1  # of a compilation that is worth a file


def keep_compiled_programs() -> None:
    """Set it up by JAX's own environment variables, so that child processes share it.

    Call it before JAX is imported; what the user has set stays.
    """
    # XLA prints a page for each program that it loads on a processor, of features that it sets
    # itself (prefer-no-gather) and then misses. Whoever reads this process's messages late stops
    # it: a pipe holds 64 KB. 1 is what JAX leaves to the children of a process.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = user_cache_path("kilolayer", appauthor=False) / f"compiled-{_processor()}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MOST_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(LEAST_SECONDS))


def _processor() -> str:
    """A name for this machine's kind of processor: a home folder may be shared by several kinds,
    and the programs of one may not run on another."""
    told = platform.machine() + platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told += next(line for line in lines if line.startswith(("flags", "Features")))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
