"""The wheel of the package, installed alone, and what both distributions say of themselves."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from email import message_from_string
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kilolayer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = {"kilolayer": ROOT, "kilolayer_robot": ROOT / "packages" / "kilolayer-robot"}
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
SOURCES = ("src", "packages", "zoo", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, cwd: Path | None = None) -> str:
    """What a process prints that sees none of this one's packages. It may keep bytecode: the
    packages are installed without."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(each) for each in command]
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheel of each distribution, built from a copy of the sources."""
    directory = tmp_path_factory.mktemp("wheels")
    found = {}
    for name, root in PACKAGES.items():
        source = directory / f"source-{name}"
        source.mkdir()
        for entry in [root / each for each in SOURCES if (root / each).exists()]:
            if entry.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(entry, source / entry.name, ignore=ignored)
            else:
                shutil.copy(entry, source)
        run(*PIP, "wheel", "--no-deps", "--wheel-dir", directory, source)
        (found[name],) = directory.glob(f"{name}-*.whl")
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_types_licence_and_what_an_index_shows(wheels, name) -> None:
    with zipfile.ZipFile(wheels[name]) as archive:
        files = archive.namelist()
    facts = facts_of(wheels[name])
    assert f"{name}/py.typed" in files
    assert any(file.endswith("/licenses/LICENSE") for file in files)
    assert not [file for file in files if "__pycache__" in file or file.startswith("tests")]
    assert facts["Version"] == kilolayer.__version__
    assert facts["License-Expression"] == "Apache-2.0"
    classifiers = facts.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    assert "https://arxiv.org/abs/2503.14858" in str(facts.get_all("Project-URL"))
    if name == "kilolayer":
        assert "kilolayer/zoo/ant/policy.safetensors" in files
        assert "kilolayer_robot/loop.py" in files


def facts_of(wheel: Path) -> Message:
    """What an index shows of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [file for file in archive.namelist() if file.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(place).decode())


def packages_asked_for(lines: Iterable[str]) -> set[str]:
    """The distributions that these requirements name, and those that they need in turn."""
    found: set[str] = set()
    asked, seen = {(line, "") for line in lines}, set()
    while asked:
        seen.add(each := asked.pop())
        needed = Requirement(each[0])
        if needed.marker is None or needed.marker.evaluate({"extra": each[1]}):
            found.add(needed.name)
            more = distribution(needed.name).requires or ()
            asked |= {(line, e) for line in more for e in {"", *needed.extras}} - seen
    return found


def link(name: str, site: Path) -> None:
    """Make an installed distribution importable from another folder, without a copy."""
    for file in distribution(name).files or ():
        place = site / file
        # Two distributions can hold the same file.
        if ".." not in file.parts and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.locate())


def test_the_wheel_alone_trains_and_plays(wheels, tmp_path) -> None:
    """In an environment with the packages that it asks for and no others."""
    venv.create(tmp_path / "venv")
    commands = tmp_path / "venv" / "bin"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for name in packages_asked_for(facts_of(wheels["kilolayer"]).get_all("Requires-Dist") or ()):
        link(name, site)
    assert (site / "jax").is_dir()
    assert not (site / "pytest").exists()
    # pip refuses what is not there.
    offline = ("install", "--no-compile", "--no-index", "--no-warn-conflicts")
    run(*PIP, "--python", commands / "python", *offline, wheels["kilolayer"])
    place = run(commands / "python", "-c", "import kilolayer; print(kilolayer.__file__)")
    assert str(tmp_path / "venv") in place
    listed = run(commands / "kilolayer", "zoo", cwd=tmp_path)
    assert "zoo:ant" in listed
    scored = run(
        commands / "kilolayer", "evaluate", "zoo:point_u_maze", "--episodes", "4", cwd=tmp_path
    )
    assert "success" in scored
    small = "--total-steps 640 --num-envs 8 --unroll-length 10 --depth 2 --width 16 --batch-size 16"
    small += " --min-replay-steps-per-env 20 --replay-steps-per-env 100 --num-evaluations 1"
    small += " --layers-per-block 1 --eval-envs 4 --no-profile"
    trained = run(commands / "kilolayer", "train", *small.split(), cwd=tmp_path)
    assert "success rate" in trained
    assert (tmp_path / "runs" / "point_u_maze-depth2-seed0" / "report.html").is_file()


def test_one_version_stands_everywhere() -> None:
    version = kilolayer.__version__
    for root in PACKAGES.values():
        assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] == version
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    assert "license: Apache-2.0" in citation


def test_nox_runs_every_python_that_the_classifiers_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", c)
        for c in project["classifiers"]
    ]
    versions = [found[1] for found in named if found]
    listed = re.search(r"python=\[(.*?)\]", (ROOT / "noxfile.py").read_text())
    assert listed
    assert re.findall(r"3\.\d+", listed[1]) == versions


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_printed_for_a_shell(shell) -> None:
    script = run_here("--tyro-print-completion", shell)
    for command in ("runs", "gallery", "push", "keep-score"):
        assert command in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def run_here(*arguments: str) -> str:
    command = [sys.executable, "-m", "kilolayer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
