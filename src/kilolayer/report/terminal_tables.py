"""Tables for the terminal: the scores of an evaluation, the forecast of a run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from kilolayer.forecasting.forecast import Forecast

Scores = Mapping[str, Mapping[str, float]]


def score_tables(scores: Scores, episodes: int, environment: str | None) -> list[Table]:
    """Tables of what `kilolayer.evaluate` returned. episodes: per goal split.

    environment: OGBench's environment, if it was evaluated: one table with a row for each task.
    Otherwise one table with all metrics for each goal split."""
    if environment is None:
        return [
            _table(
                ("metric", "value"),
                [(name, f"{value:.3f}") for name, value in metrics.items()],
                title=f"{split}, {episodes} episodes",
            )
            for split, metrics in scores.items()
        ]
    rows = [
        (
            task,
            f"{metrics['episodes']:.0f}",
            f"{metrics['success']:.3f}",
            f"{metrics['success_low']:.3f} to {metrics['success_high']:.3f}",
            f"{metrics['time_at_goal']:.1f}",
        )
        for task, metrics in scores.items()
    ]
    columns = ("task", "episodes", "success", "95 % interval", "time at goal")
    return [_table(columns, rows, title=environment)]


def forecast_tables(forecast: "Forecast") -> Iterator[Table]:
    """Network, arithmetic, memory, disk and time of the run; options that need less memory."""
    parameters = forecast.parameters | {"all": sum(forecast.parameters.values())}
    rows = [(name, f"{count:,}") for name, count in parameters.items()]
    yield _table(("network", "parameters"), rows)
    counts = {"update": forecast.updates, "environment step": forecast.env_steps, "run": 1}
    operations = [
        (name, _engineering(forecast.flops[name]), f"{count:,}") for name, count in counts.items()
    ]
    yield _table(("arithmetic", "floating-point operations", "count"), operations)
    devices = "" if forecast.devices == 1 else f", each of {forecast.devices} devices"
    memory = {**forecast.memory, "peak": forecast.peak_bytes}
    memory[f"{forecast.device}: {_verdict(forecast.fits)}"] = forecast.device_bytes
    rows = [(name, _gigabytes(size)) for name, size in memory.items()]
    yield _table((f"memory{devices}", "GB"), rows)
    yield _table(("disk", "GB"), [("checkpoints, at most", _gigabytes(forecast.disk_bytes))])
    yield _table(("time", ""), _times(forecast))
    if forecast.advice:
        options = [
            (each.option, _gigabytes(each.peak_bytes), _verdict(each.fits))
            for each in forecast.advice
        ]
        yield _table(("option", "peak memory, GB", ""), options)


def _times(forecast: "Forecast") -> Iterator[tuple[str, str]]:
    yield f"compile (one of {forecast.rounds:,} rounds)", f"{forecast.compile_seconds:.1f} s"
    if forecast.seconds_per_round and forecast.hours:
        low, high = forecast.seconds_per_round
        yield "round of training", f"{low:.3g} to {high:.3g} s"
        low, high = forecast.hours
        unit, factor = ("hours", 1) if high >= 1 else ("minutes", 60)
        yield "run", f"{factor * low:.3g} to {factor * high:.3g} {unit}"


def _table(
    columns: Sequence[str], rows: Iterable[tuple[str, ...]], title: str | None = None
) -> Table:
    """All columns but the first are right-aligned."""
    table = Table(columns[0], title=title, title_justify="left")
    for name in columns[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _verdict(fits: bool) -> str:
    return "fits" if fits else "does not fit"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3f}"


def _engineering(count: float) -> str:
    """A large number in powers of a thousand: 756.2e9."""
    power = 0
    while count >= 1000:
        count, power = count / 1000, power + 3
    return f"{count:.4g}e{power}" if power else f"{count:.4g}"
