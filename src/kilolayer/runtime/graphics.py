"""Imports MuJoCo on machines where the renderer named by MUJOCO_GL does not work."""

import importlib
import os
import sys
import warnings


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
