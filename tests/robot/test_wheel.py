"""The robot's wheel, alone with numpy and onnxruntime, drives a simulated cart."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from benchmarks import cart

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ABSENT = ("jax", "jaxlib", "mujoco", "equinox", "optax", "scipy", "onnx", "kilolayer")


def run(*command: object, cwd: Path | None = None) -> str:
    """What a process prints that sees none of this one's packages."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The directory of commands of an environment with the wheel alone."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = shutil.copytree(
        ROOT / "packages" / "kilolayer-robot",
        directory / "source",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    run(*pip, "wheel", "--no-deps", "--wheel-dir", directory, source)
    (wheel,) = directory.glob("kilolayer_robot-*.whl")
    venv.create(directory / "venv", with_pip=True)
    commands = directory / "venv" / "bin"
    run(commands / "python", "-m", "pip", "--quiet", "install", wheel)
    return commands


def test_wheel_without_kilolayer_drives_a_cart(installed, policy_folder, tmp_path) -> None:
    lacks = f"import importlib.util as u; print([m for m in {ABSENT} if u.find_spec(m)])"
    assert run(installed / "python", "-c", lacks).strip() == "[]"
    shutil.copy(cart.__file__, tmp_path / "cart.py")
    command = ["run", policy_folder, "--robot", "cart:Cart", "--goal", "0.5", "--seconds", "3"]
    command += ["--set", f"record={tmp_path / 'record'}", "--lock", f"wheel-{os.getpid()}"]
    printed = run(installed / "kilolayer-robot", *command, cwd=tmp_path)
    assert "stopped by time after 60 control steps at 20 Hz; last action safe" in printed
    actions = cart.received(tmp_path / "record")
    times, speeds = np.array([each.at for each in actions]), np.array([a.action for a in actions])
    place = np.cumsum(speeds[:-1] * np.diff(times))
    assert place[-1] == pytest.approx(0.5, abs=0.05)
    assert actions[-1].safe


def test_loop_imports_no_heavy_modules(installed) -> None:
    source = (
        "import sys, kilolayer_robot.loop, kilolayer_robot.policy;"
        "kilolayer_robot.Policy;"
        "print(sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))"
    )
    loaded = run(installed / "python", "-c", source)
    assert "numpy" in loaded
    assert "onnxruntime" not in loaded  # until a policy is opened
