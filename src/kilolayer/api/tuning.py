"""One training run as a function of its settings, for hyperparameter search."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kilolayer.api.training import train
from kilolayer.errors import nearest
from kilolayer.recommendations import recommended
from kilolayer.types import bad_field


def objective(
    overrides: Mapping[str, Any] | None = None,
    on_evaluation: Callable[[int, float], None] | None = None,
    metric: str = "time_at_goal",
    directory: str | Path | None = None,
    progress: bool = False,
) -> float:
    """Train once with a task's recommended settings, changed by `overrides`, and return the score
    of the last evaluation.

    overrides: keyword arguments of `recommended`: `task`, `recipe` and any setting of a run.
    on_evaluation: called with environment steps and the score after every evaluation; an exception
    raised in it, such as `optuna.TrialPruned`, stops a poor run early. metric: a score of an
    evaluation, such as time_at_goal (control steps, higher is better), success or
    smallest_distance. directory: where the run is kept; by default a new one under `runs/`. Each
    run of a parallel search needs its own directory. Raises UserError for settings that cannot be
    run or an unknown metric.
    """
    scores: list[float] = []

    def record_score(steps: int, found: Mapping[str, float]) -> None:
        if metric not in found:
            raise bad_field("metric", metric, "no such score", nearest(metric, found))
        scores.append(found[metric])
        if on_evaluation is not None:
            on_evaluation(steps, scores[-1])

    train(recommended(**(overrides or {})), directory, progress, on_evaluation=record_score)
    return scores[-1]
