"""The Python interface: what it compiles, and how often."""

from typing import Any

import jax
import pytest

from kilolayer import api
from kilolayer.analysis.load import Run, load
from kilolayer.api import playing
from kilolayer.training.evaluate import Evaluator


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
