"""The notebooks of docs/notebooks run from top to bottom, with smaller sizes."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
SMALL = {
    "train_look_change": {"STEPS": "1_200", "EPISODES": "4"},
    "compare_depths": {"DEPTHS": "(4, 8)", "SEEDS": "2", "STEPS": "1_200"},
}
# Runs first: what the notebooks show does not depend on these.
SMALLER = """
import kilolayer
from functools import partial

def smaller(recommended, *arguments, **settings):
    sizes = dict(num_envs=8, unroll_length=50, layers_per_block=1, batch_size=16, eval_envs=4)
    counts = dict(min_replay_steps_per_env=50, replay_steps_per_env=200, profile=False)
    return recommended(*arguments, **{**sizes, **counts, **settings})

kilolayer.recommended = partial(smaller, kilolayer.recommended)
"""
TIMEOUT = 900  # seconds for a cell, on a busy machine
# Jupyter's own, on its way to another event loop.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that the cells of a notebook print, run in `folder`."""
    places = (str(ROOT / "src"), str(ROOT / "packages/kilolayer-robot/src"))
    monkeypatch.setenv("PYTHONPATH", ":".join(places))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source = shrunk(settings.source, SMALL[name]) + SMALLER
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def shrunk(source: str, sizes: Mapping[str, str]) -> str:
    """The cell of settings with other values; every name must be set there."""
    for name, value in sizes.items():
        source, count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value}", source, flags=re.M)
        assert count == 1, f"{name} is not set once"
    return source


def test_train_look_change(tmp_path, monkeypatch) -> None:
    printed = executed("train_look_change", tmp_path, monkeypatch)
    assert re.search(r"^success [01]\.\d+", printed, re.M)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    assert (tmp_path / "play.gif").stat().st_size > 1000
    assert "depth" in (tmp_path / "compare.html").read_text()


def test_compare_depths(tmp_path, monkeypatch) -> None:
    printed = executed("compare_depths", tmp_path, monkeypatch)
    assert "inconclusive" in printed  # two seeds per group have no power
    assert len(list((tmp_path / "runs").glob("depth*/seed_*/DONE"))) == 4


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_committed_without_outputs(name) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    assert {f"{path.stem}" for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)
