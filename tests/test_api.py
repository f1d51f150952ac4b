"""The Python interface: what it compiles, and how often."""

from typing import Any

import jax
import numpy as np
import pytest

import kilolayer
from kilolayer import api
from kilolayer.analysis.load import Run, load
from kilolayer.api import deployment, playing, training
from kilolayer.errors import UserError
from kilolayer.report import run_report
from kilolayer.run_directory import RunDirectory
from kilolayer.training.evaluate import Evaluator
from served import ask

ZOO = "zoo:point_u_maze"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of environments of the programs that are traced from now on."""
    traced, run = [], Evaluator.run

    def traced_run(self: Evaluator, *arguments: Any) -> Any:
        traced.append(arguments[-1].goal.shape[0])
        return run(self, *arguments)

    monkeypatch.setattr(Evaluator, "run", traced_run)
    playing._compiled.cache_clear()
    return traced


def test_evaluate_compiles_once_for_runs_that_differ_by_their_weights(
    tiny_run: Run, compiled: list[int]
) -> None:
    first = api.evaluate(tiny_run.path, episodes=3, steps=20)
    assert api.evaluate(load(tiny_run.path), episodes=3, steps=20) == first
    assert api.evaluate(tiny_run.path, episodes=3, steps=20, seed=1) != first
    assert compiled == [3]  # also for both goal splits
    others = load(tiny_run.path)
    others.__dict__["agent_state"] = jax.tree.map(lambda leaf: leaf + 1, tiny_run.agent_state)
    assert api.evaluate(others, episodes=3, steps=20) != first
    assert compiled == [3]


def test_evaluate_recompiles_for_another_program(tiny_run: Run, compiled: list[int]) -> None:
    api.evaluate(tiny_run.path, episodes=3, steps=20)
    api.evaluate(tiny_run.path, episodes=2, steps=20)
    api.evaluate(tiny_run.path, episodes=2, steps=21)
    longer = load(tiny_run.path)
    longer.__dict__["config"] = tiny_run.config.having(absorbing_termination=True)
    api.evaluate(longer, episodes=2, steps=21)
    assert compiled == [3, 2, 2, 2]


@pytest.mark.parametrize(
    ("function", "arguments", "sentence"),
    [
        (api.prune, {"orders": ["gredy"]}, "order = 'gredy' .* the nearest valid choice is greedy"),
        (api.prune, {"orders": []}, "order = '' is not allowed"),
        (api.prune, {"measure": "cosin"}, "measure = 'cosin' .* valid choice is cosine"),
        (api.prune, {"measure": "norm"}, "measure = 'norm' is not allowed: it needs --order one"),
        (api.export, {"formats": ["onx"]}, "format = 'onx' .* valid choice is onnx"),
        (api.export_robot, {"weights": "float8"}, "weights = 'float8' is not allowed: one of"),
        (api.export_robot, {"planner": "direct"}, "planner = 'direct' is not allowed"),
        (deployment.latency, {"runtimes": ["onx"]}, "runtime = 'onx' .* valid choice is onnx"),
        (deployment.latency, {"runtimes": []}, "nothing to measure: give a runtime or a planner"),
        (deployment.control, {"planner": "waypoint"}, "planner = 'waypoint' .* is waypoints"),
        (api.collect, {"steps": 9, "to": "minary"}, "to = 'minary' .* valid choice is minari"),
    ],
)
def test_misspelled_choice_is_refused(function, arguments, sentence, tmp_path) -> None:
    if function not in (deployment.latency, deployment.control):
        name = "to" if function is api.export_robot else "out"
        arguments = {name: tmp_path / "out.npz"} | arguments
    policy = [ZOO] if function is deployment.latency else ZOO
    with pytest.raises(UserError, match=sentence):
        function(policy, progress=False, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("writes", "report"), [(True, True), (True, False), (False, True)])
def test_training_writes_reports_as_the_command_does(writes, report, tiny_run, monkeypatch):
    directory = RunDirectory(tiny_run.path, writes)
    monkeypatch.setattr(training, "start_run", lambda *_, **__: directory)
    monkeypatch.setattr(training, "resume_run", lambda *_: directory)
    written: list[Run] = []
    monkeypatch.setattr(run_report, "write_report", written.append)
    config, path = tiny_run.config, tiny_run.path
    runs = [
        api.train(config, path, progress=False, report=report),
        *api.train_seeds(1, config, path, progress=False, report=report),
        *api.resume(path, progress=False, report=report),
    ]
    assert [run.path for run in runs] == 3 * [path]
    assert [run.path for run in written] == (3 * [path] if writes and report else [])


def test_a_search_writes_no_reports(tiny_run, monkeypatch):
    def trained(*_: Any, on_evaluation: Any, report: bool) -> None:
        assert not report
        on_evaluation(640, {"success": 0.5})

    monkeypatch.setattr(training, "train", trained)
    assert api.objective(metric="success") == 0.5


def test_page_is_served_until_its_block_ends():
    """In Python, with one's own planner."""
    asked: list[tuple] = []

    def planner(*rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return rows[-1][None]

    with deployment.serve(ZOO, planner=planner, port=0, progress=False) as server:
        assert server.session.task.name == "point_u_maze"
        server.start()
        assert ask(server)[0] == 200
    assert asked
    with pytest.raises(ConnectionRefusedError):
        ask(server)


def test_the_zoo_is_listed_with_scores():
    found = {each.name: each for each in kilolayer.zoo()}
    assert found["point_u_maze"].score.success.value > 0.9
