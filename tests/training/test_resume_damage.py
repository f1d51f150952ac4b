"""A killed run whose files were damaged: what its resume does about each."""

import shutil
from pathlib import Path

import pytest

from kilolayer.analysis.load import Run
from kilolayer.errors import UserError
from kilolayer.report.run_report import write_report
from kilolayer.run_directory import FOLDERS, RunDirectory
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.training.loop import resume_run, start_run
from training.test_resume import TINY, KilledAt, empty_files


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its last checkpoint. Read only."""
    path = tmp_path_factory.mktemp("runs") / "killed"
    with pytest.raises(KeyboardInterrupt):
        start_run(TINY, path, KilledAt("profile"))
    return path


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(Path(shutil.copytree(killed, tmp_path / "run")))


def scrambled(data: bytes) -> bytes:
    return b"\xff\xfe" + data[::-1]


@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: data[: len(data) // 2], scrambled])
def test_a_gap_in_the_curves_is_told(run, damage) -> None:
    metrics = run.path / "metrics.jsonl"
    whole = metrics.read_bytes()
    for content, gap in ((whole, False), (damage(whole), True)):
        metrics.write_bytes(content)
        told: list[str] = []
        display = SilentDisplay()
        display.note = told.append  # type: ignore[method-assign]
        resume_run(run.path, display)
        assert any("the curves have a gap" in note for note in told) is gap
        (run.path / "DONE").unlink()


def test_run_without_an_intact_checkpoint_is_not_restarted(run) -> None:
    empty_files(run.checkpoints)
    with pytest.raises(UserError, match=r"damaged.*There is no other checkpoint to go on from"):
        resume_run(run.path, SilentDisplay())


@pytest.mark.parametrize("setting", [{"seed": 1}, {"discount": 0.9}, {"batch_size": 16}])
def test_edited_config_is_refused_on_resume(run, setting) -> None:
    (run.path / "config.json").write_text(TINY.having(**setting).to_json())
    with pytest.raises(UserError, match=r"was changed since the run began.*--start-from"):
        resume_run(run.path, SilentDisplay())


def test_run_with_lost_metrics_can_be_read(run) -> None:
    (run.path / "metrics.jsonl").write_bytes(b"")
    resumed = Run(resume_run(run.path, SilentDisplay()))
    assert 0 <= resumed.final("evaluation/success") <= 1
    assert write_report(resumed).is_file()


def test_deleted_folders_are_made_again(run) -> None:
    for folder in FOLDERS:
        shutil.rmtree(run.path / folder)
    assert write_report(Run(resume_run(run.path, SilentDisplay()))).is_file()


class NoWork(SilentDisplay):
    def phase(self, name: str) -> None:
        raise AssertionError(f"the phase {name} began")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_told_before_any_work(run, folder) -> None:
    shutil.rmtree(run.path / folder)
    (run.path / folder).write_text("in the way")
    with pytest.raises(UserError, match=rf"cannot write .*/{folder}: File exists. .*move it away"):
        resume_run(run.path, NoWork())
    assert (run.path / folder).read_text() == "in the way"
