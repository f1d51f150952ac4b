"""The list of runs: finished, unfinished, failed and damaged run directories."""

import os
import re
import webbrowser
from pathlib import Path

import pytest

from kilolayer import api
from kilolayer.analysis.listing import ListedRun, list_runs
from kilolayer.cli import main
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from synthetic_runs import TINY, write_run


def by_name(folder: Path) -> dict[str, ListedRun]:
    return {run.name: run for run in list_runs(folder)}


def test_finished_run_has_settings_newest_score_and_size(tmp_path):
    write_run(tmp_path / "a", TINY.having(depth=8, seed=3, task="ant"), (0.0, 10.0, 20.0))
    (run,) = list_runs(tmp_path)
    assert (run.name, run.task, run.depth, run.seed) == ("a", "ant", 8, 3)
    assert (run.success, run.time_at_goal) == (0.2, 20.0)
    assert (run.state, run.progress) == ("finished", 1.0)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert run.bytes == sum(len(path.read_bytes()) for path in files)


def test_unfinished_run_has_progress(tmp_path):
    write_run(tmp_path / "a", TINY.having(total_steps=4000), finished=False)
    write_run(tmp_path / "b", TINY.having(total_steps=1000), time_at_goal=(), finished=False)
    runs = by_name(tmp_path)
    assert (runs["a"].state, runs["a"].progress) == ("unfinished", 0.75)
    assert (runs["b"].progress, runs["b"].success) == (0.0, None)


@pytest.mark.parametrize("event", [{"event": "nonfinite"}, {"event": "diverged", "stopped": True}])
def test_run_stopped_by_an_error_has_failed_until_resumed(tmp_path, event):
    run = RunDirectory(write_run(tmp_path / "a", finished=False))
    run.append_event({**event, "round": 9})
    assert by_name(tmp_path)["a"].state == "failed"
    run.append_event({"event": "resume", "round": 3})
    assert by_name(tmp_path)["a"].state == "unfinished"


def test_runs_of_studies_and_seeds_are_found_in_subfolders(tmp_path):
    write_run(tmp_path / "study" / "runs" / "depth-4")
    RunDirectory.create(tmp_path / "together", TINY, {}, seeds=[0, 1])
    write_run(tmp_path / "alone")
    write_run(tmp_path / "alone" / "policies" / "inner")  # is part of a run, not a run of the list
    assert list(by_name(tmp_path)) == [
        "alone", "study/runs/depth-4", "together/seed_0", "together/seed_1",
    ]  # fmt: skip


@pytest.mark.parametrize("looks", [0, 1])
def test_run_that_removes_a_checkpoint_meanwhile_is_listed(tmp_path, monkeypatch, looks):
    """The file is there when its folder is read, and for this many looks at the file itself."""
    old = write_run(tmp_path / "a", finished=False) / "checkpoints" / "old"
    old.touch()
    stat, seen = os.stat, []

    def stat_while_it_trains(path, *arguments, **options):
        if os.fspath(path) == str(old):
            if len(seen) == looks:
                old.unlink(missing_ok=True)
            seen.append(path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat_while_it_trains)
    assert by_name(tmp_path)["a"].state == "unfinished"
    assert seen


def test_folder_may_be_a_run(tmp_path):
    assert list(by_name(write_run(tmp_path / "only"))) == ["only"]


@pytest.mark.parametrize(
    ("file", "text"),
    [("config.json", "{"), ("config.json", '{"dpeth": 3}')],
)
def test_damaged_run_is_listed_with_others(tmp_path, file, text):
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad") / file).write_text(text)
    runs = by_name(tmp_path)
    assert (runs["bad"].state, runs["bad"].task) == ("damaged", None)
    assert runs["good"].state == "finished"


def test_progress_of_offline_run_is_counted_in_updates(tmp_path):
    config = TINY.having(dataset="d.npz", total_steps=4000, update_to_data=1 / 20, agent="gcbc")
    write_run(tmp_path / "a", config, finished=False)
    # The synthetic run has logged 75 of 200 updates.
    assert by_name(tmp_path)["a"].progress == pytest.approx(0.375)


def test_runs_command_prints_one_row_per_run(tmp_path, capsys):
    write_run(tmp_path / "deep", TINY.having(depth=64, seed=7), (0.0, 50.0), finished=False)
    write_run(tmp_path / "shallow", time_at_goal=())
    main(["runs", str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()
    deep = next(row for row in rows if "deep" in row)
    for word in ("point_u_maze", "64", "7", "0.50", "50.0", "unfinished", "MB"):
        assert word in deep
    shallow = next(row for row in rows if "shallow" in row)
    assert re.search(r"- .*- .*finished", shallow)


def test_open_shows_report_and_rewrites_outdated_report(run_copy, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    folder, report = run_copy.path.parent, run_copy.path / "report.html"
    report.write_text("old")
    metrics = run_copy.path / "metrics.jsonl"
    newer = metrics.stat().st_mtime + 10
    os.utime(report, (newer, newer))
    assert api.open_report(folder, "tiny") == (report, True)
    assert opened == [report.as_uri()]
    assert report.read_text() == "old"
    os.utime(metrics, (newer + 10, newer + 10))
    api.open_report(folder, "tiny")
    assert "<title>point_u_maze, depth 8" in report.read_text()


def test_open_without_browser_prints_path(tmp_path, capsys, monkeypatch):
    def fails(address: str) -> bool:
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "open", fails)
    report = write_run(tmp_path / "a") / "report.html"
    report.write_text("x")
    main(["runs", str(tmp_path), "--open", "a"])
    printed = capsys.readouterr().out
    assert str(report) in printed
    assert "no browser" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-folder"], "there is no folder no-such-folder"),
        (["empty"], "there is no run in empty"),
        (["full", "--open", "depth"], "no run 'depth' here; the nearest name is 'depth8'"),
    ],
)
def test_runs_command_refuses_invalid_input(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "full" / "depth8")
    with pytest.raises(SystemExit) as stop:
        main(["runs", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_runs_function_lists_runs(tmp_path):
    write_run(tmp_path / "a")
    assert [run.name for run in api.runs(tmp_path)] == ["a"]
    with pytest.raises(UserError, match="no folder"):
        api.runs(tmp_path / "b")
