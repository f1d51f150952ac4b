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
    "train_look_change": {"STEPS": "20_000", "EPISODES": "8"},
    "compare_depths": {"DEPTHS": "(4, 8)", "SEEDS": "2", "STEPS": "20_000"},
}
TIMEOUT = 900  # seconds for a cell, on a busy machine
# Jupyter's own, on its way to another event loop.
pytestmark = pytest.mark.filterwarnings("default")


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that the cells of a notebook print, run in `folder`."""
    places = (str(ROOT / "src"), str(ROOT / "packages/kilolayer-robot/src"))
    monkeypatch.setenv("PYTHONPATH", ":".join(places))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source = shrunk(settings.source, SMALL[name])
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
