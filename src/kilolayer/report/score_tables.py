"""Scores of an evaluation for the terminal."""

from collections.abc import Mapping

from rich.table import Table

Scores = Mapping[str, Mapping[str, float]]


def score_tables(scores: Scores, episodes: int, environment: str | None) -> list[Table]:
    """Tables of what `kilolayer.evaluate` returned. episodes: per goal split.

    environment: OGBench's environment, if it was evaluated."""
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
    table.add_column("task")
    for column in ("episodes", "success", "95 % interval", "time at goal"):
        table.add_column(column, justify="right")
    for task, metrics in scores.items():
        low, high = metrics["success_low"], metrics["success_high"]
        table.add_row(
            task,
            f"{metrics['episodes']:.0f}",
            f"{metrics['success']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{metrics['time_at_goal']:.1f}",
        )
    return table
