"""Every benchmark still runs and prints what it measures; the figures are not checked here."""

import importlib
import sys

import pytest
from benchmarks import performance

from probes import exhaustive

pytestmark = pytest.mark.slow

SMALL = {
    "accelerator": "--quick",
    "ant_exploration": "--envs 4 --steps 80 --noise 0.15",
    "error_rates": "--repeats 2 --out /dev/null",
    "deep_stack": "--quick --ways none",
    "depth_stability": "--depths 4 --width 8 --batch-size 8 --updates 2 --candidates published",
    "engines": "--quick",
    "lean": "--quick --ways apart towers",
    "memory": "--depth 8 --width 8 --batch-size 8 --ways none",
    "latency": "--quick",
    "robustness": "--tasks point_u_maze pusher_hard --envs 4 --steps 20",
    "plan_check": "--quick",
}


# These compile for a minute and more each.
SLOW = ("deep_stack", "depth_stability", "latency", "lean", "memory", "plan_check")
RUN = [pytest.param(name, marks=exhaustive) if name in SLOW else name for name in SMALL]


@pytest.mark.parametrize("name", RUN)
def test_a_benchmark_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *SMALL[name].split()])
    importlib.import_module(f"benchmarks.{name}").main()
    printed = capsys.readouterr().out
    assert any(character.isdigit() for character in printed)
    assert "nan" not in printed


@exhaustive
def test_the_page_of_performance_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["performance", "--quick", "--out", str(tmp_path)])
    performance.main()
    text = (tmp_path / "performance.md").read_text()
    assert "nan" not in text
    assert (tmp_path / "performance.png").stat().st_size > 10_000
