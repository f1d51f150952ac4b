"""Hook of mkdocs: the site is made of the repository's files in their places.

Pages lie in docs/, results/, zoo/ and elsewhere. With their places kept, a link between two files
works in the repository and on the site alike, and mkdocs checks it.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PLACES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs", "examples", "zoo")
PLACES += ("results", "packages/kilolayer-robot/README.md")
# Of pages and of the files that they link to.
SUFFIXES = {".md", ".gif", ".html", ".ipynb", ".json", ".jsonl", ".mp4", ".png", ".py", ""}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files and ours, each with its path from the repository's root."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for path in paths():
        place = path.relative_to(ROOT).as_posix()
        files.append(File(place, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def paths() -> list[Path]:
    """The files of the site, sorted."""
    found: list[Path] = []
    for place in (ROOT / name for name in PLACES):
        found += place.rglob("*") if place.is_dir() else [place]
    hidden = "__pycache__", ".ipynb_checkpoints"
    return sorted(
        path
        for path in found
        if path.is_file() and path.suffix in SUFFIXES and not set(path.parts) & set(hidden)
    )
