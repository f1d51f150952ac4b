"""Scores of an evaluation for the terminal."""

from collections.abc import Mapping

from rich.table import Table

Scores = Mapping[str, Mapping[str, float]]


def score_tables(scores: Scores, episodes: int, environment: str | None) -> list[Table]:
    """Tables of what `kilolayer.evaluate` returned. episodes: per goal split.

    environment: the maze of OGBench that was scored, if any."""
    return [_task_table(scores, environment)] if environment else _split_tables(scores, episodes)


def _split_tables(scores: Scores, episodes: int) -> list[Table]:
    """One table with all metrics for each goal split."""
    tables = []
    for split, metrics in scores.items():
        table = Table(title=f"{split}, {episodes} episodes", title_justify="left")
        table.add_column("metric")
        table.add_column("value", justify="right")
        for name, value in metrics.items():
            table.add_row(name, f"{value:.3f}")
        tables.append(table)
    return tables


def _task_table(scores: Scores, environment: str) -> Table:
    """One row for each task of OGBench's environment."""
    table = Table(title=environment, title_justify="left")
    table.add_column("")
    for column in ("episodes", "success", "95 % interval", "time at goal"):
        table.add_column(column, justify="right")
    for task, found in scores.items():
        low, high = found["success_low"], found["success_high"]
        table.add_row(
            task,
            f"{found['episodes']:.0f}",
            f"{found['success']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{found['time_at_goal']:.1f}",
        )
    return table
