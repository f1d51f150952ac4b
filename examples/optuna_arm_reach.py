"""Tune arm_reach_easy with Optuna (`pip install optuna`): `python -m examples.optuna_arm_reach`.

Runs that are worse than the median of the earlier ones at the same step are stopped early.
"""

from typing import Any

import optuna

import kilolayer


def score(trial: optuna.Trial, **fixed: Any) -> float:
    rate = trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)
    overrides = {
        "task": "arm_reach_easy",
        "actor_learning_rate": rate,
        "critic_learning_rate": rate,
        "discount": trial.suggest_float("discount", 0.9, 0.99),
        "width": trial.suggest_categorical("width", [32, 64, 128]),
    }

    def report(steps: int, time_at_goal: float) -> None:
        trial.report(time_at_goal, steps)
        if trial.should_prune():
            raise optuna.TrialPruned

    return kilolayer.objective(overrides | fixed, report)


def tune(trials: int = 12, **fixed: Any) -> optuna.Study:
    """fixed: settings that are the same in all trials."""
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(lambda trial: score(trial, **fixed), n_trials=trials)
    return study


if __name__ == "__main__":
    best = tune().best_trial
    print(f"{best.value:.1f} control steps at the goal with {best.params}")
