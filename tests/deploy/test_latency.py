"""Latency: the Pareto front, and the command on a tiny run."""

import json

import pytest

from kilolayer.cli import main
from kilolayer.deploy import latency
from kilolayer.deploy.latency import Timing, pareto_front
from pages import assert_alone, read_page


def test_pareto_front_excludes_dominated_points():
    points = [(1.0, 5.0), (2.0, 9.0), (3.0, 9.0), (2.0, 4.0), (0.5, None), (2.0, 9.0)]
    assert pareto_front(points) == (True, True, False, False, False, True)


def test_a_timing_is_median_and_99th_percentile():
    timing = Timing.of([float(value) for value in range(101)])
    assert (timing.median, timing.p99) == (50.0, 99.0)


def test_the_command_writes_table_figures_and_page(tiny_run, tmp_path, capsys):
    out = tmp_path / "here.html"
    options = "--batch 4 --repeats 20 --episodes 4 --tolerance 10"
    main(["latency", str(tiny_run.path), "--out", str(out), *options.split()])
    printed = capsys.readouterr().out
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["runtime"] for row in rows] == ["jax", "onnx", "early-exit"]
    for row in rows:
        assert row["runtime"] in printed
        assert 0 < row["single"]["median"] <= row["single"]["p99"]
        assert (row["method"], row["depth"], row["width"]) == ("train", 8, 16)
        assert row["score"] >= 0
    jax_row, onnx_row, exit_row = rows
    assert jax_row["score"] == onnx_row["score"]
    # 6 inputs, 8 layers and 4 outputs, 16 wide.
    assert jax_row["operations"] == 2 * 16 * (6 + 8 * 16 + 4)
    # No action moves by 10: it leaves after its first block, having read its output twice.
    assert exit_row["blocks_used"] == 1
    assert exit_row["operations"] == 2 * 16 * (6 + 4 * 16 + 2 * 4)
    assert any(row["pareto_front"] for row in rows)
    page = read_page(out.read_text())
    assert_alone(out.read_text(), page)
    assert "Pareto front" in page.text


def test_planner_row_includes_the_planners_cost(tiny_run, tmp_path, monkeypatch):
    def durations(calls, repeats, display):
        assert len(calls) == 3  # the action, the action under the planner, the plan
        return [[0.002, 0.002], [0.002, 0.002], [0.008, 0.008]]

    monkeypatch.setattr(latency, "_alternate", durations)
    out = tmp_path / "here.html"
    options = "--batch 4 --repeats 20 --episodes 4 --runtime jax --planner interpolation --replan 4"
    main(["latency", str(tiny_run.path), "--out", str(out), *options.split()])
    alone, led = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert (alone["runtime"], led["runtime"]) == ("jax", "interpolation")
    # A quarter of a plan with every action, and a whole plan beside the slowest.
    assert led["operations"] > alone["operations"]
    assert alone["single"] == pytest.approx({"median": 0.002, "p99": 0.002})
    assert led["single"] == pytest.approx({"median": 0.004, "p99": 0.01})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--batch 0", "batch = 0 is not allowed"),
        ("--repeats 0", "repeats = 0 is not allowed"),
        ("--batch 10000000000", "batch = 10000000000 is not allowed: it takes"),
        ("--repeats 100000000000000", "repeats = 100000000000000 is not allowed: it takes"),
        ("--episodes 10000000000", "episodes = 10000000000 is not allowed: it takes"),
        ("--episodes=-1", "episodes = -1 is not allowed"),
        ("--tolerance=-1", "tolerance = -1.0 is not allowed"),
        ("--out here.txt", "out = 'here.txt' is not allowed: a file that ends in .html"),
        ("--out nowhere/here.html", "there is no such directory"),
    ],
)
def test_invalid_options_give_one_sentence(
    options, sentence, tiny_run, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["latency", str(tiny_run.path), *options.split()])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("error:") == 1


def test_policies_of_two_tasks_are_not_compared(tiny_run, run_copy, capsys):
    config = json.loads((run_copy.path / "config.json").read_text())
    config["task"]["task"] = "point_big_maze"
    (run_copy.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        main(["latency", str(tiny_run.path), str(run_copy.path)])
    assert "measure policies of one task at a time" in capsys.readouterr().err
