"""MuJoCo without a picture: a MUJOCO_GL that does not work here must stop no command."""

import importlib
import os
import sys
import warnings


def load_mujoco() -> None:
    """Import MuJoCo, without its rendering where MUJOCO_GL names a library that is not here.

    MuJoCo opens that library when it is imported. Call this before any other import of it.
    """
    named = os.environ.get("MUJOCO_GL", "")
    if not named or "mujoco" in sys.modules:
        return
    try:
        importlib.import_module("mujoco")
    # A missing library fails in a way of its own: AttributeError, RuntimeError, OSError, ...
    except Exception as error:
        for name, module in list(sys.modules.items()):
            compiled = (getattr(module, "__file__", None) or "").endswith(".so")
            if name.split(".")[0] == "mujoco" and not compiled:  # which cannot be loaded twice
                del sys.modules[name]
        os.environ["MUJOCO_GL"] = "disabled"
        warnings.warn(
            f"MUJOCO_GL={named} does not work here ({error}), so nothing can be drawn: install "
            "its library (libosmesa6 for osmesa, libegl1 for egl), or unset it",
            stacklevel=2,
        )
