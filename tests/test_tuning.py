"""A run as a function of its settings, and the programs that search with it."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import kilolayer
from kilolayer import UserError
from kilolayer.analysis.listing import list_runs

pytestmark = pytest.mark.slow

SMALL = {
    "total_steps": 640,
    "num_envs": 8,
    "unroll_length": 10,
    "layers_per_block": 1,
    "depth": 2,
    "width": 16,
    "discount": 0.9,
    "representation_dim": 8,
    "batch_size": 16,
    "min_replay_steps_per_env": 20,
    "replay_steps_per_env": 100,
    "num_evaluations": 2,
    "eval_envs": 6,
    "tensorboard": False,
    "profile": False,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_score_is_that_of_the_last_evaluation():
    scores: list[tuple[int, float]] = []
    score = kilolayer.objective(SMALL, lambda *score: scores.append(score), "smallest_distance")
    run = kilolayer.load("runs/point_u_maze-depth2-seed0")
    steps, distances = run.curve("evaluation/smallest_distance")
    assert score == distances[-1] > 0
    # All but the evaluation before the first update.
    assert scores == list(zip(steps[1:], distances[1:], strict=True))
    assert run.config == kilolayer.recommended(**SMALL)
    assert kilolayer.recommended().flat()["discount"] != SMALL["discount"]


def test_stopped_objective_resumes_to_the_same_result():
    class PoorError(Exception):
        pass

    def stop(steps: int, score: float) -> None:
        raise PoorError

    whole = kilolayer.objective(SMALL, metric="final_distance", directory="whole")
    with pytest.raises(PoorError):
        kilolayer.objective(SMALL, stop, directory="pruned")
    (pruned,) = list_runs(Path("pruned"))
    assert pruned.state == "unfinished"
    (run,) = kilolayer.resume("pruned", progress=False, report=False)
    assert run.final("evaluation/final_distance") == whole


@pytest.mark.parametrize(
    ("overrides", "metric", "sentence"),
    [
        ({"task": "ant_umaze"}, "success", "nearest valid choice is ant_u_maze"),
        ({"dpeth": 4}, "success", "no setting 'dpeth'; the nearest is 'depth'"),
        ({"depth": 10}, "success", "depth = 10 is not allowed"),
        (SMALL, "sucess", r"metric = 'sucess' is not allowed: no such score; .* is success"),
    ],
)
def test_invalid_settings_and_scores_are_refused(overrides, metric, sentence):
    with pytest.raises(UserError, match=sentence):
        kilolayer.objective(overrides, metric=metric)


def test_optuna_searches_and_prunes(monkeypatch):
    optuna = pytest.importorskip("optuna")
    from examples.optuna_arm_reach import tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    study = tune(trials=2, **SMALL)
    first, second = study.trials
    assert (first.state.name, second.state.name) == ("COMPLETE", "PRUNED")
    assert first.params["learning_rate"] != second.params["learning_rate"]
    ran, pruned = list_runs(Path("runs"))
    assert (ran.task, ran.state, pruned.state) == ("arm_reach_easy", "finished", "unfinished")
    assert study.best_value == ran.time_at_goal
    # Both evaluations of the first, and the one at which the second was stopped.
    assert [len(trial.intermediate_values) for trial in (first, second)] == [2, 1]


def test_a_sweep_logs_every_evaluation(monkeypatch):
    """With a stand-in of the package, which is no dependency of the tests."""
    logged, swept = [], []
    wandb = ModuleType("wandb")

    class Run(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def log(self, values):
            logged.append(values)

    config = {"task": "point_u_maze", **SMALL}
    vars(wandb).update(
        init=lambda: Run(config=config),
        sweep=lambda sweep, project: swept.append(sweep) or "id",
        agent=lambda name, function, count: function(),
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    runpy.run_module("examples.wandb_sweep", run_name="__main__")
    run = kilolayer.load("runs/point_u_maze-depth2-seed0")
    steps, scores = run.curve("evaluation/time_at_goal")
    assert [values["env_steps"] for values in logged] == list(steps[1:])
    assert [values["time_at_goal"] for values in logged] == list(scores[1:])
    known = kilolayer.recommended(swept[0]["parameters"]["task"]["value"]).flat()
    assert set(swept[0]["parameters"]) <= set(known)
