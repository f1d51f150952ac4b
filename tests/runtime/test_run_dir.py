"""The run directory: events that survive kills and resumes, files that are whole or absent."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.config import run_config
from kilolayer.run_directory import RunDirectory, guard_disk, write_atomically
from kilolayer.types import UserError


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", run_config(depth=8), {"command": "kilolayer"})


def train_event(round_: int, **extra) -> dict:
    return {"event": "train", "round": round_, **extra}


def rounds(run: RunDirectory) -> list[tuple[str, int]]:
    return [(event["event"], event["round"]) for event in run.read_events()]


def test_a_new_run_holds_its_config_and_manifest(run):
    again = RunDirectory.open(run.path)
    assert again.config == run_config(depth=8)
    assert json.loads((run.path / "manifest.json").read_text()) == {"command": "kilolayer"}
    assert again.checkpoints.is_dir()
    assert again.read_events() == []
    assert not again.finished
    run.mark_finished()
    assert again.finished


def test_an_empty_directory_may_be_used(tmp_path):
    (tmp_path / "run").mkdir()
    RunDirectory.create(tmp_path / "run", run_config(), {})


def test_nothing_is_ever_overwritten(run):
    before = (run.path / "config.json").read_text()
    with pytest.raises(UserError, match=re.escape(f"{run.path} exists already")) as error:
        RunDirectory.create(run.path, run_config(), {})
    assert "--out" in str(error.value)
    assert f"kilolayer train --resume {run.path}" in str(error.value)
    assert (run.path / "config.json").read_text() == before


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        RunDirectory.create(tmp_path / "file", run_config(), {})
    with pytest.raises(UserError, match=r"cannot make the run directory .*Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run", run_config(), {})
    assert (tmp_path / "file").read_text() == "precious"


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} is not a run directory")):
        RunDirectory.open(tmp_path)
    with pytest.raises(UserError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "absent")


VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text()


@given(extras=st.lists(st.dictionaries(st.text(min_size=3), VALUES, max_size=3), max_size=4))
def test_events_round_trip(extras, tmp_path_factory):
    run = RunDirectory.create(tmp_path_factory.mktemp("run"), run_config(), {})
    events = [{"event": "train", "round": i, "metrics": e} for i, e in enumerate(extras)]
    for event in events:
        run.append_event(event)
    read = run.read_events()
    assert all(event.pop("time") > 1.7e9 for event in read)
    assert read == events


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(run, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append_event(train_event(1, metrics={"critic/loss": value}))
    assert not (run.path / "metrics.jsonl").exists()


def test_every_prefix_of_a_killed_writers_line_is_passed_over(run):
    run.append_event(train_event(1))
    target = run.path / "metrics.jsonl"
    whole = target.read_text()
    line = json.dumps(train_event(2, metrics={"critic/loss": 1.5}, note="café"))
    for length in range(len(line)):
        target.write_text(whole + line[:length])
        assert rounds(run) == [("train", 1)], line[:length]


def test_an_event_after_a_torn_line_is_whole(run):
    run.append_event(train_event(1))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "rou')
    run.append_event({"event": "resume", "round": 1})
    run.append_event(train_event(2))
    assert rounds(run) == [("train", 1), ("resume", 1), ("train", 2)]


def test_a_resume_voids_what_came_after_its_checkpoint(run):
    for round_ in (1, 2, 3, 4):
        run.append_event(train_event(round_, attempt=1))
    run.append_event({"event": "resume", "round": 2})
    for round_ in (3, 4):
        run.append_event(train_event(round_, attempt=2))
    run.append_event({"event": "resume", "round": 3})
    run.append_event(train_event(4, attempt=3))
    trained = [e for e in run.read_events() if e["event"] == "train"]
    assert [(e["round"], e["attempt"]) for e in trained] == [(1, 1), (2, 1), (3, 2), (4, 3)]
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 9


def test_a_resume_at_the_start_voids_everything(run):
    run.append_event(train_event(1))
    run.append_event({"event": "resume", "round": 0})
    assert rounds(run) == [("resume", 0)]


def test_episodes_are_replaced_whole(run):
    for value in (1.0, 2.0):
        run.write_episodes("evaluation", {"goal": np.full((3, 2), value, np.float32)})
    assert [path.name for path in (run.path / "episodes").iterdir()] == ["evaluation.npz"]
    with np.load(run.path / "episodes" / "evaluation.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["goal"], np.full((3, 2), 2.0))
        assert arrays["goal"].dtype == np.float32


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "config.json"
    write_atomically(target, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match=re.escape(f"cannot write {target}: No space left")):
        write_atomically(target, "new")
    assert target.read_text() == "old"


def test_the_disk_guard_says_how_to_go_on_and_lets_other_errors_through(tmp_path):
    with pytest.raises(UserError, match=r"\d+ MiB free.*Kept\. .*--resume"):  # noqa: SIM117
        with guard_disk(tmp_path / "x", kept="Kept. "):
            raise OSError(28, "No space left on device")
    with pytest.raises(KeyError), guard_disk(tmp_path / "x"):
        raise KeyError("mine")
