"""Imports: no heavy module is loaded before it is needed."""

import subprocess
import sys

import pytest

import kilolayer
from kilolayer import (
    api,
    control_commands,
    deploy_commands,
    language_commands,
    run_commands,
    study_commands,
    task_commands,
)

HEAVY = ("jax", "matplotlib", "orbax", "imageio", "scipy.stats", "tensorboardX", "mujoco", "optax")


def loaded(statement: str) -> set[str]:
    """The heavy packages that a fresh process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import kilolayer") == set()


def test_gymnasium_environments_import_no_rendering_or_checkpoints():
    drawing = {"matplotlib", "orbax", "imageio", "tensorboardX"}
    assert not loaded("import kilolayer.gym") & drawing


@pytest.mark.parametrize("name", ["train", "evaluate", "runs", "write_report"])
def test_a_command_imports_no_statistics_before_it_needs_them(name):
    assert not loaded(f"from kilolayer.api import {name}") & {"scipy.stats", "matplotlib"}


@pytest.mark.parametrize("name", kilolayer.__all__)
def test_every_public_name_is_found(name):
    assert getattr(kilolayer, name) is not None


COMMANDS = {
    **dict.fromkeys(["train", "evaluate", "play", "collect", "compare"]),
    **run_commands.COMMANDS,
    **task_commands.COMMANDS,
    **study_commands.COMMANDS,
    **deploy_commands.COMMANDS,
    **control_commands.COMMANDS,
    **language_commands.COMMANDS,
}


@pytest.mark.parametrize("command", [*COMMANDS, "forecast", "write_report"])
def test_every_command_has_a_function(command):
    """`plan` is `forecast` and `report` is `write_report`: modules have those two names."""
    assert callable(getattr(kilolayer, command.replace("-", "_")))


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_of_the_commands_is_found(name):
    assert getattr(api, name) is not None


def test_unknown_public_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = kilolayer.trian


def test_the_overview_of_the_commands_loads_nothing_heavy():
    statement = (
        "import contextlib, io\n"
        "from kilolayer.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])"
    )
    assert loaded(statement) == set()
