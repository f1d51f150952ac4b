"""The tables that `kilolayer study` prints before it trains anything."""

from collections.abc import Mapping

from rich.table import Table

from kilolayer.forecasting.calibrate import Range
from kilolayer.runtime.devices import gibibytes, local_memory
from kilolayer.studies.cost import GridCost
from kilolayer.studies.grid import Cell


def question_table(questions: Mapping[str, str]) -> Table:
    """The questions by name."""
    table = Table("name", "question", title="kilolayer study NAME", title_justify="left")
    for name, text in questions.items():
        table.add_row(name, text)
    return table


def cost_table(cells: Mapping[str, Cell], cost: GridCost) -> Table:
    """A row for each run, and the total of all runs."""
    table = Table(title=f"{len(cells)} runs", title_justify="left", show_footer=True)
    table.add_column("run", "all runs", no_wrap=True)
    operations = sum(each.total for each in cost.operations.values())
    for column, footer in (
        ("parameters", ""),
        ("updates", ""),
        ("env steps", ""),
        ("operations", f"{operations:.2g}"),
        ("hours on this machine", _hours(cost.total_hours)),
    ):
        table.add_column(column, footer, justify="right")
    for name in cells:
        own = cost.operations[name]
        hours = cost.hours[name] if cost.hours else None
        table.add_row(
            name,
            f"{own.parameters:,}",
            f"{own.updates:,}",
            f"{own.env_steps:,}",
            f"{own.total:.2g}",
            _hours(hours),
        )
    return table


def memory_sentence(cost: GridCost) -> str:
    """Whether the largest run fits into memory, as a sentence."""
    largest = cost.largest
    if isinstance(largest, int):
        return (
            f"The state of the largest run has {gibibytes(largest)}; this machine has "
            f"{gibibytes(local_memory())}. With --calibration the forecast includes the memory of "
            "an update, and one run of each task is timed to forecast the hours."
        )
    fits = "fits" if largest.fits else "does not fit"
    return (
        f"The largest run needs {largest.peak_bytes / 2**30:.1f} GiB and {fits} into the "
        f"{largest.device_bytes / 2**30:.1f} GiB of this machine. Hours exclude evaluations."
    )


def _hours(hours: Range | None) -> str:
    return "untimed" if hours is None else f"{hours[0]:.2g} to {hours[1]:.2g}"
