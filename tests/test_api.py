"""The Python interface: what it compiles, and how often."""

from typing import Any

import jax
import pytest

from kilolayer import api
from kilolayer.analysis.load import Run, load
from kilolayer.api import deployment, playing
from kilolayer.errors import UserError
from kilolayer.training.evaluate import Evaluator

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
