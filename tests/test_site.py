"""The documentation site builds, with every link checked, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe|video|link)\b[^>]*?(?:src|href)=[\"']?(https?:[^\"' >]+)"
)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", config, "--site-dir", site],
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> list[Path]:
    """Those that mkdocs made, without the reports that lie among the results."""
    return [page for page in site.rglob("*.html") if "mkdocs" in page.read_text()[:2000]]


def test_readme_results_and_tutorials_are_pages(site) -> None:
    for name in ("index", "results/index", "docs/tutorials/first_agent", "docs/control_loop"):
        assert site / f"{name}.html" in pages(site)


def test_every_page_of_results_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    found = {str(page.relative_to(ROOT)) for page in (ROOT / "results").glob("*/README.md")}
    assert len(found) > 20
    assert {page for page in found if f": {page}\n" not in navigation} == set()


def test_the_api_is_made_of_docstrings(site) -> None:
    text = (site / "docs" / "api" / "index.html").read_text()
    assert "Train an agent and return its run." in text
    assert "Residual blocks per iteration" in (site / "docs/api/config.html").read_text()


def test_no_page_loads_anything_from_the_network(site) -> None:
    found = {page.name: LOADED.findall(page.read_text()) for page in pages(site)}
    assert len(found) > 30
    assert not {name: links for name, links in found.items() if links}


@pytest.mark.parametrize("link", ["missing.md", "index.md#missing", "folder"])
def test_a_broken_link_ends_the_build(link, tmp_path) -> None:
    source = tmp_path / "pages"
    (source / "folder").mkdir(parents=True)
    (source / "index.md").write_text(f"# Page\n\n[text]({link})\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {source}\nhooks: []\nplugins: []\n"
        "nav: [index.md]\n"
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert link.split("#")[0] in done.stdout + done.stderr
