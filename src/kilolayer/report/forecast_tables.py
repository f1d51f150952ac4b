"""Tables of a forecast for the terminal."""

from collections.abc import Iterable, Iterator

from rich.table import Table

from kilolayer.forecasting.forecast import Forecast


def forecast_tables(forecast: Forecast) -> Iterator[Table]:
    """Network, arithmetic, memory, disk and time of the run; options that need less memory."""
    parameters = forecast.parameters | {"all": sum(forecast.parameters.values())}
    rows = [(name, f"{count:,}") for name, count in parameters.items()]
    yield _table("network", ("parameters",), rows)
    counts = {"update": forecast.updates, "environment step": forecast.env_steps, "run": 1}
    rows = [
        (name, _engineering(forecast.flops[name]), f"{count:,}") for name, count in counts.items()
    ]
    yield _table("arithmetic", ("floating-point operations", "count"), rows)
    devices = "" if forecast.devices == 1 else f", each of {forecast.devices} devices"
    verdict = "fits" if forecast.fits else "does not fit"
    memory = {**forecast.memory, "peak": forecast.peak_bytes}
    memory[f"{forecast.device}: {verdict}"] = forecast.device_bytes
    rows = [(name, f"{size / 1e9:.3f}") for name, size in memory.items()]
    yield _table(f"memory{devices}", ("GB",), rows)
    yield _table("disk", ("GB",), [("checkpoints, at most", f"{forecast.disk_bytes / 1e9:.3f}")])
    yield _table("time", ("",), _times(forecast))
    if forecast.advice:
        rows = [
            (each.option, f"{each.peak_bytes / 1e9:.3f}", "fits" if each.fits else "does not fit")
            for each in forecast.advice
        ]
        yield _table("option", ("peak memory, GB", ""), rows)


def _times(forecast: Forecast) -> Iterator[tuple[str, str]]:
    yield f"compile (one of {forecast.rounds:,} rounds)", f"{forecast.compile_seconds:.1f} s"
    if forecast.seconds_per_round and forecast.hours:
        low, high = forecast.seconds_per_round
        yield "round of training", f"{low:.3g} to {high:.3g} s"
        low, high = forecast.hours
        unit, factor = ("hours", 1) if high >= 1 else ("minutes", 60)
        yield "run", f"{factor * low:.3g} to {factor * high:.3g} {unit}"


def _table(first: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(first)
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _engineering(count: float) -> str:
    """A large number in powers of a thousand: 756.2e9."""
    power = 0
    while count >= 1000:
        count, power = count / 1000, power + 3
    return f"{count:.4g}e{power}" if power else f"{count:.4g}"
