"""What must happen before JAX and MuJoCo are imported: the compilation cache and the renderer.

JAX's compilation cache is on by default: a second start of a run loads the compiled programs. It is
in the user's cache folder and limited in size. `JAX_ENABLE_COMPILATION_CACHE=0` turns it off;
`JAX_COMPILATION_CACHE_DIR` sets another folder. JAX cannot cache programs that call MuJoCo or
Gymnasium on the host; they compile each time.
"""

import hashlib
import importlib
import os
import platform
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

MAX_BYTES = 2 * 2**30
MIN_SECONDS = 0.1  # shortest compilation that is cached


def keep_compiled_programs() -> None:
    """Set the cache by JAX's environment variables, so that child processes share it.

    Call it before JAX is imported. Variables that the user has set are kept.
    """
    # XLA prints a page for each cached program: processor features that it sets itself
    # (prefer-no-gather) and then reports as missing. A full pipe of 64 KB would block this process.
    # JAX sets the value 1 for child processes.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = user_cache_path("kilolayer", appauthor=False) / f"compiled-{_processor()}"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(MIN_SECONDS))


def _processor() -> str:
    """A hash of the processor's type. Machines may share a home folder, and programs for one type
    may not run on another."""
    description = platform.machine() + platform.processor()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        description += next(line for line in lines if line.startswith(("flags", "Features")))
    return hashlib.sha256(description.encode()).hexdigest()[:12]


def load_mujoco() -> None:
    """Import MuJoCo, without rendering if the library that MUJOCO_GL names is missing.

    MuJoCo opens that library at its import. Call this before any other import of MuJoCo.
    """
    named = os.environ.get("MUJOCO_GL", "")
    if not named or "mujoco" in sys.modules:
        return
    try:
        importlib.import_module("mujoco")
    # A missing library raises AttributeError, RuntimeError, OSError, ...
    except Exception as error:
        for name, module in list(sys.modules.items()):
            compiled = (getattr(module, "__file__", None) or "").endswith(".so")
            # A compiled module cannot be loaded twice.
            if name.split(".")[0] == "mujoco" and not compiled:
                del sys.modules[name]
        os.environ["MUJOCO_GL"] = "disabled"
        warnings.warn(
            f"MUJOCO_GL={named} does not work here ({error}), so nothing can be drawn: install "
            "its library (libosmesa6 for osmesa, libegl1 for egl), or unset it",
            stacklevel=2,
        )
