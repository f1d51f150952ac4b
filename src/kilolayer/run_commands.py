"""The commands that list and show trained runs. Like `cli.py`, no logic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table

from kilolayer.terminal import OUTPUT, console

if TYPE_CHECKING:
    from kilolayer.analysis.listing import ListedRun


def runs(
    folder: tyro.conf.Positional[Path] = Path("runs"),
    open_: Annotated[str | None, tyro.conf.arg(name="open", metavar="NAME")] = None,
) -> None:
    """List the runs under a folder: task, depth, seed, score, state and size.

    Args:
        folder: The folder to search, including subfolders. Default: runs.
        open_: Open the report of this run in the browser. NAME is the run's name in the table. A
            report that is missing or older than the metrics is written first.
    """
    from kilolayer import api

    if open_ is not None:
        path, opened = api.open_report(folder, open_)
        OUTPUT.print(f"report  {path}{'' if opened else '  (no browser here: open it by hand)'}")
        return
    found = api.runs(folder)
    table = Table(title=f"runs in {folder}", title_justify="left")
    for name in ("run", "task", "depth", "seed", "success", "time at goal", "state", "size"):
        left = name in ("run", "task", "state")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "run")
    for run in found:
        table.add_row(*_row(run))
    # A wrapped row is easier to read than truncated columns.
    console(max(OUTPUT.width, 140)).print(table)


def _row(run: "ListedRun") -> tuple[str, ...]:
    state = f"{run.state}, {run.progress:.0%}" if run.state == "unfinished" else run.state
    return (
        run.name,
        run.task or "-",
        _number(run.depth, "d"),
        _number(run.seed, "d"),
        _number(run.success, ".2f"),
        _number(run.time_at_goal, ".1f"),
        state,
        f"{run.bytes / 1e6:,.1f} MB",
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def gallery(out: Path = Path("gallery.html")) -> None:
    """Write one page that shows every policy of the zoo moving, with its score.

    Takes one or two minutes. The page holds its films and opens without a network.

    Args:
        out: The page to write, an .html file. Default: gallery.html.
    """
    from kilolayer import api

    OUTPUT.print(f"gallery  {api.gallery(out)}")


COMMANDS = {"runs": runs, "gallery": gallery}
