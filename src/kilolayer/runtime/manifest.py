"""The manifest of a run, for its reproduction: command, versions, git state, devices."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    "kilolayer", "jax", "jaxlib", "equinox", "optax", "safetensors", "numpy", "mujoco",
    "mujoco-mjx", "warp-lang", "gymnasium", "gymnasium-robotics", "ogbench",
)  # fmt: skip


def describe_run(seed: int) -> dict[str, Any]:
    """The manifest of a run that starts now."""
    name = Path(sys.argv[0]).name
    program = "kilolayer" if name == "__main__.py" else name  # of `python -m kilolayer`
    return {
        "command": shlex.join([program, *sys.argv[1:]]),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "git": _git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit of the code that runs and whether it was changed, or None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed package may lie in another project's checkout, such as in its .venv.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
