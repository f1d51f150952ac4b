"""Generated pages, the page of the architecture and the packages' own words match the code."""

import ast
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from docs.make_tasks_page import row

from kilolayer.tasks.registry import TASKS, make_task

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
PACKAGES = sorted((ROOT / "src" / "kilolayer").rglob("__init__.py"))


@pytest.mark.parametrize("name", TASKS)
def test_the_page_of_tasks_is_current(name):
    assert row(make_task(name)) in PAGE, "run: python -m docs.make_tasks_page"


def test_the_table_of_the_architecture_has_the_layers_in_their_order():
    table = (ROOT / "docs" / "architecture.md").read_text().split("| group |")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [(name, at) for at, row in enumerate(rows) for name in re.findall(r"`(\S+?)/?`", row)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    places = []
    for layer in contracts["contracts"][0]["layers"]:
        modules = [module.removeprefix("kilolayer.") for module in layer.split(" : ")]
        found = {
            at
            for module in modules
            for name, at in names
            if name == module or fnmatch(f"{module}.py", name)
        }
        assert len(found) == 1, modules
        places += found
    assert places == sorted(places)


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_a_package_says_what_it_is_for_and_names_what_it_has(path):
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert said
    for module, name in re.findall(r"`(?!jax)([a-z_]+)\.([A-Za-z_]+)`", said):
        file = path.parent / f"{module}.py"
        if file.exists():
            assert re.search(rf"^(def {name}|class {name}|{name}\b.*=)", file.read_text(), re.M)
        else:  # a package, whose names are in its own file
            assert name in (path.parent / module / "__init__.py").read_text()
