"""Show what was trained: the runs below a folder, the report of a run, the zoo and its films."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from kilolayer.analysis.listing import ListedRun, find_run, list_runs
from kilolayer.api.playing import play
from kilolayer.api.training import write_report
from kilolayer.errors import UserError
from kilolayer.runtime.browser import open_page
from kilolayer.runtime.files import require_file
from kilolayer.runtime.progress import make_display
from kilolayer.runtime.zoo import PREFIX

if TYPE_CHECKING:
    from kilolayer.deploy.zoo_entry import ZooEntry


def runs(folder: str | Path = "runs") -> list[ListedRun]:
    """The runs below a folder, with task, depth, seed, score, state and size.

    Raises UserError if there is no such folder or no run in it.
    """
    return list_runs(Path(folder))


def open_report(folder: str | Path, name: str) -> tuple[Path, bool]:
    """Open the report of the run called `name` (see `runs`) in the browser.

    Returns its path and whether a browser opened. A report that is missing or older than the run's
    metrics is written first. Raises UserError with the nearest name if there is no such run.
    """
    run = find_run(list_runs(Path(folder)), name)
    path, metrics = run.path / "report.html", run.path / "metrics.jsonl"
    current = path.is_file() and (
        not metrics.is_file() or metrics.stat().st_mtime <= path.stat().st_mtime
    )
    path = path if current else write_report(run.path)
    return path, open_page(path.resolve().as_uri())


def zoo() -> list["ZooEntry"]:
    """The trained policies that ship with the package, sorted by name, with score and training.

    Raises UserError if a policy's files are damaged.
    """
    from kilolayer.deploy.zoo_entry import zoo_entries

    return zoo_entries()


def gallery(out: str | Path = "gallery.html", progress: bool = True) -> Path:
    """Write one page with a film and the score of every policy of the zoo, and return its path.

    out: an .html file. progress: show a live display. Raises UserError if there is no zoo, the file
    cannot be written, or nothing can be rendered here.
    """
    from kilolayer.report.gallery import write_gallery

    out = Path(out)
    require_file(out, ".html")
    found = zoo()
    if not found:
        raise UserError("this installation has no zoo: install the package from its wheel.")
    films = []
    with tempfile.TemporaryDirectory() as folder, closing(make_display(progress)) as display:
        display.phase("film")
        for index, zoo_entry in enumerate(found):
            film = play(PREFIX + zoo_entry.name, out=Path(folder) / f"{zoo_entry.name}.mp4")
            films.append((zoo_entry, film))
            display.advance(index + 1, len(found))
        return write_gallery(films, out)
