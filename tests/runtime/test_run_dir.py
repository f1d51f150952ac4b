"""The run directory: events that survive kills and resumes, files that are complete or absent."""

import errno
import hashlib
import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory, new_run_lock, run_lock
from kilolayer.runtime.files import (
    guard_disk,
    read_json,
    replace_atomically,
    unused,
    write_atomically,
)


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", run_config(depth=8), {"command": "kilolayer"})


def train_event(round_: int, **extra) -> dict:
    return {"event": "train", "round": round_, **extra}


def rounds(run: RunDirectory) -> list[tuple[str, int]]:
    return [(event["event"], event["round"]) for event in run.read_events()]


def test_new_run_has_config_and_manifest(run):
    again = RunDirectory.open(run.path)
    assert again.config == run_config(depth=8)
    manifest = json.loads((run.path / "manifest.json").read_text())
    config = (run.path / "config.json").read_bytes()
    sha256 = hashlib.sha256(config).hexdigest()
    assert manifest == {"command": "kilolayer", "config_sha256": sha256}
    assert again.checkpoints.is_dir()
    assert again.read_events() == []
    assert not again.finished
    run.mark_finished()
    assert again.finished


def test_empty_directory_is_accepted(tmp_path):
    (tmp_path / "run").mkdir()
    RunDirectory.create(tmp_path / "run", run_config(), {})


def test_nothing_is_ever_overwritten(run):
    before = (run.path / "config.json").read_text()
    with pytest.raises(UserError, match=re.escape(f"{run.path} exists already")) as error:
        RunDirectory.create(run.path, run_config(), {})
    assert "--out" in str(error.value)
    assert f"kilolayer train --resume {run.path}" in str(error.value)
    assert (run.path / "config.json").read_text() == before


def test_existing_file_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match=r"exists already and holds no run") as error:
        RunDirectory.create(tmp_path / "file", run_config(), {})
    assert "--resume" not in str(error.value)  # which would not help
    with pytest.raises(UserError, match=r"cannot make the run directory .*Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run", run_config(), {})
    assert (tmp_path / "file").read_text() == "precious"


def test_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} is not a run directory")):
        RunDirectory.open(tmp_path)
    with pytest.raises(UserError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "absent")


VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text()


@given(extras=st.lists(st.dictionaries(st.text(min_size=3), VALUES, max_size=3), max_size=4))
def test_events_round_trip(extras, tmp_path_factory):
    run = RunDirectory.create(tmp_path_factory.mktemp("run"), run_config(), {})
    events = [{"event": "train", "round": i, "note": e} for i, e in enumerate(extras)]
    for event in events:
        run.append_event(event)
    read = run.read_events()
    assert all(event.pop("time") > 1.7e9 for event in read)
    assert read == events


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_number_is_never_written(run, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append_event(train_event(1, metrics={"critic/loss": value}))
    assert not (run.path / "metrics.jsonl").exists()


def test_truncated_lines_are_skipped(run):
    run.append_event(train_event(1))
    target = run.path / "metrics.jsonl"
    whole = target.read_text()
    line = json.dumps(train_event(2, metrics={"critic/loss": 1.5}, note="café"))
    for length in range(len(line)):
        target.write_text(whole + line[:length])
        assert rounds(run) == [("train", 1)], line[:length]


def test_event_after_a_truncated_line_is_read(run):
    run.append_event(train_event(1))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "rou')
    run.append_event({"event": "resume", "round": 1})
    run.append_event(train_event(2))
    assert rounds(run) == [("train", 1), ("resume", 1), ("train", 2)]


def test_resume_invalidates_events_after_its_checkpoint(run):
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


def test_resume_at_the_start_invalidates_all_events(run):
    run.append_event(train_event(1))
    run.append_event({"event": "resume", "round": 0})
    assert rounds(run) == [("resume", 0)]


def test_episodes_are_replaced_atomically(run):
    for value in (1.0, 2.0):
        run.write_episodes("evaluation", {"goal": np.full((3, 2), value, np.float32)})
    assert [path.name for path in (run.path / "episodes").iterdir()] == ["evaluation.npz"]
    with np.load(run.path / "episodes" / "evaluation.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["goal"], np.full((3, 2), 2.0))
        assert arrays["goal"].dtype == np.float32


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "config.json"
    write_atomically(target, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match=re.escape(f"cannot write {target}: No space left")):
        write_atomically(target, "new")
    assert target.read_text() == "old"


ADVICE = {
    errno.ENOSPC: r"No space left on device \(\d+ MiB free\)\. Free some space.*--resume",
    errno.EROFS: r"Read-only file system\. Mount that file system for writing",
    errno.EACCES: r"Permission denied\. Ask for the right",
    errno.ENOENT: r"No such file or directory\. Make its folder first",
    errno.ENOTDIR: r"Not a directory\. A part of that path is a file",
    errno.EFBIG: r"File too large\. Raise the limit on the size of files",
    errno.ENOMEM: r"Cannot allocate memory\. Free some memory",
    errno.ESTALE: r"Stale file handle\. Check that place and its disk",
}


@pytest.mark.parametrize("number", ADVICE)
@pytest.mark.parametrize("folder", [".", "a/folder/that/is/not/there"])
def test_disk_guard_advises_per_error(tmp_path, number, folder):
    with pytest.raises(UserError, match=ADVICE[number]):  # noqa: SIM117
        with guard_disk(tmp_path / folder / "x"):
            raise OSError(number, "told by the system")


def test_disk_guard_passes_other_errors(tmp_path):
    with pytest.raises(KeyError), guard_disk(tmp_path / "x"):
        raise KeyError("mine")


NOT_JSON = [b"", b"{", b"\xff\xfe{\x00}\x00", b"\x00" * 40, b"[" * 100_000, b"1" * 5000]


@pytest.mark.parametrize("content", NOT_JSON, ids=range(len(NOT_JSON)))
def test_damaged_json_is_reported_with_a_remedy(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x.json is damaged \(.*\): write it anew\."):
        read_json(tmp_path / "x.json", "write it anew")
    with pytest.raises(UserError, match=r"cannot read .*y.json: No such file.*: write it anew\."):
        read_json(tmp_path / "y.json", "write it anew")


@pytest.mark.parametrize("content", [*NOT_JSON, b"[]", b"7", b'"text"', b"null"])
def test_invalid_config_is_reported(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json (is not valid JSON|is not UTF-8|must hold)"):
        _ = run.config


NUMBERS = ["1e999", "-1e999", "NaN", "9" * 400, "1e-400", "-" + "9" * 400, '"1"', "true", "[]"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["discount", "total_steps", "seed", "critic_learning_rate"])
def test_invalid_config_number_is_reported(run, field, number):
    file = run.path / "config.json"
    text = re.sub(rf'"{field}": [^,\n]+', f'"{field}": {number}', file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    with pytest.raises(UserError, match=field):
        _ = run.config


BAD_LINES = {
    "binary": b"\xff\xfe\x00\x01",
    "torn in the middle": b'{"event": "tra',
    "no object": b'["train", 1]',
    "a number": b"17",
    "no event": b'{"round": 2}',
    "no round": b'{"event": "train"}',
    "round no number": b'{"event": "train", "round": "2"}',
    "round below zero": b'{"event": "train", "round": -1}',
    "metrics without steps": b'{"event": "train", "round": 2, "metrics": {"a": 1}}',
    "metrics no object": b'{"event": "x", "round": 2, "env_steps": 1, "updates": 1, "metrics": []}',
    "not finite": b'{"event":"x","round":2,"env_steps":1,"updates":1,"metrics":{"a":1e999}}',
    "deep": b"[" * 100_000,
    "durations a text": b'{"event": "checkpoint", "round": 2, "seconds": "x"}',
    "a duration a text": b'{"event": "profile", "round": 2, "seconds_per_round": {"a": "b"}}',
    "a duration nothing": b'{"event": "profile", "round": 2, "seconds": {"a": null}}',
    "seconds of the round": b'{"event": "train", "round": 2, "round_seconds": "y"}',
    "size": b'{"event": "checkpoint", "round": 2, "megabytes": {}}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_damaged_line_is_skipped_with_a_warning(run, line):
    run.append_event(train_event(1))
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line + b"\n")
    run.append_event(train_event(3))
    with pytest.warns(UserWarning, match=r"1 lines of .*metrics.jsonl are damaged"):
        assert rounds(run) == [("train", 1), ("train", 3)]


@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_in_the_metrics_are_skipped(content, tmp_path_factory):
    run = RunDirectory.create(tmp_path_factory.mktemp("run"), run_config(), {})
    (run.path / "metrics.jsonl").write_bytes(content)
    assert run.read_events() == []
    run.append_event({"event": "resume", "round": 0})
    assert rounds(run) == [("resume", 0)]


@pytest.fixture
def seeds(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "many", run_config(seed=3), {}, seeds=(3, 4, 5))


def test_seeds_that_train_together_have_a_directory_each(seeds):
    assert seeds.seeds == (3, 4, 5)
    assert [member.config.seed for member in seeds.members] == [3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"[3, 4", b"[3, 4]", b"{}", b"null", b"\xff", None])
def test_damaged_seed_list_is_reported(seeds, content):
    listed = seeds.path / "seeds.json"
    listed.unlink() if content is None else listed.write_bytes(content)
    with pytest.raises(UserError, match=r"seeds.json.*write .* into it, \[3, 4, 5\]\."):
        _ = seeds.seeds
    listed.write_text("[3, 4, 5]")
    assert seeds.seeds == (3, 4, 5)


@pytest.mark.parametrize("content", [b"[]", b"5", b"[0]", b""])
def test_seed_list_without_folders_is_reported(run, content):
    (run.path / "seeds.json").write_bytes(content)
    with pytest.raises(UserError, match=r"seeds.json.*no folders seed_N.*delete that file"):
        _ = run.seeds


@pytest.mark.parametrize("setting", [{"seed": 9}, {"discount": 0.5}, {"batch_size": 128}])
def test_changed_config_is_refused_with_a_remedy(run, seeds, setting):
    run.require_same_config()
    seeds.require_same_config()
    for changed, reported in ((run, run), (seeds.members[1], seeds)):
        file = changed.path / "config.json"
        file.write_text(changed.config.having(**setting).to_json())
        with pytest.raises(UserError, match=re.escape(f"{file} was changed")) as error:
            reported.require_same_config()
        assert f"--start-from {reported.path}" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"null", b"{}", b"[]", b"5", None])
def test_config_without_a_manifest_is_refused(run, content):
    manifest = run.path / "manifest.json"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    with pytest.raises(UserError, match=r"manifest.json.*--start-from"):
        run.require_same_config()


def test_leftovers_of_a_killed_creation_are_reused(tmp_path):
    """In every state: files are written one after the other, config.json last."""
    whole = RunDirectory.create(tmp_path / "whole", run_config(), {}, seeds=(0, 1)).path
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    files.remove(type(whole)("config.json"))
    for count in range(len(files) + 1):
        part = tmp_path / f"part{count}"
        shutil.copytree(whole, part)
        (part / "config.json").unlink()
        for file in files[count:]:
            (part / file).unlink()
        (part / ".config.json.writing").write_text("{")
        assert RunDirectory.create(part, run_config(), {}).config == run_config()


@pytest.mark.parametrize("name", ["notes.txt", "data/x.csv", "config.json", "metrics.jsonl"])
def test_directory_with_other_files_is_refused(tmp_path, name):
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(UserError, match="exists already"), new_run_lock(tmp_path / "run"):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_run_is_locked_by_one_process(tmp_path):
    with new_run_lock(tmp_path / "run"):
        for hold in (new_run_lock, run_lock):
            with (
                pytest.raises(UserError, match="another process trains in"),
                hold(tmp_path / "run"),
            ):
                pass
        RunDirectory.create(tmp_path / "run", run_config(), {})
    with run_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "config.json").is_file()


@pytest.mark.parametrize("there", ["", "a", "a/run"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_untrained_run_is_removed(tmp_path, there, error):
    (tmp_path / there).mkdir(exist_ok=True, parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error), new_run_lock(tmp_path / "a" / "run"):  # noqa: PT012
        run = RunDirectory.create(tmp_path / "a" / "run", run_config(), {}, seeds=(0, 1))
        run.append_event({"event": "evaluation", "round": 0})
        raise error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("event", ["train", "diverged", "nonfinite"])
def test_trained_run_is_kept(tmp_path, event):
    with pytest.raises(ValueError, match="boom"), new_run_lock(tmp_path / "run"):  # noqa: PT012
        run = RunDirectory.create(tmp_path / "run", run_config(), {})
        run.append_event({"event": event, "round": 1})
        raise ValueError("boom")
    assert rounds(RunDirectory.open(tmp_path / "run")) == [(event, 1)]


def test_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    """After a loss of power a name would lead to an empty file."""
    done: list[tuple[str, str]] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        real_sync(descriptor)

    def replace(source, target):
        done.append(("name", str(target)))
        real_replace(source, target)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr("os.replace", replace)
    whole = tmp_path / "whole"
    for inside in ("written/a", "written/deep/b"):
        (tmp_path / inside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / inside).write_text("x")
    replace_atomically(tmp_path / "written", whole)
    named = done.index(("name", str(whole)))
    for inside in ("", "/a", "/deep", "/deep/b"):
        assert ("sync", f"{tmp_path}/written{inside}") in done[:named]
    assert done[named + 1 :] == [("sync", str(tmp_path))]  # the folder that holds the name


@pytest.mark.parametrize("name", ["two words", "a'b", "sweep[lr=0.1]", "$HOME", "a;b", "st*r"])
def test_suggested_command_is_shell_quoted(tmp_path, name):
    run = RunDirectory.create(tmp_path / name, run_config(), {})
    with pytest.raises(UserError) as error:
        RunDirectory.create(run.path, run_config(), {})
    command = re.search(r"`(kilolayer train --resume .*)`", str(error.value))
    assert command is not None
    assert shlex.split(command[1])[-1] == str(run.path)


def test_unused_path_has_the_first_free_number(tmp_path):
    found = []
    for _ in range(3):
        found.append(unused(tmp_path / "ant.v2"))
        found[-1].mkdir()
    assert [path.name for path in found] == ["ant.v2", "ant.v2-2", "ant.v2-3"]
