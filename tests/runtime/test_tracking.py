"""Trackers: one that fails never loses another."""

import os
import re
import socket
import subprocess
import sys

import pytest

from event_files import scalars_shown, wandb_history
from kilolayer.errors import OutsideError, UserError
from kilolayer.runtime.tracking import (
    CompositeTracker,
    TensorBoardTracker,
    TrackingConfig,
    build_tracker,
)


class Recorder:
    """Records its calls; fails from the given call on."""

    def __init__(self, fail_at: int = 10**9):
        self.logged, self.closed, self.calls, self.fail_at = [], False, 0, fail_at

    def _call(self):
        self.calls += 1
        if self.calls > self.fail_at:
            raise ConnectionError("the sink is gone")

    def log(self, env_steps, metrics):
        self._call()
        self.logged.append((env_steps, dict(metrics)))

    def close(self):
        self._call()
        self.closed = True


@pytest.mark.parametrize("order", [1, -1])
def test_one_failing_tracker_never_loses_the_other(order):
    good, bad = Recorder(), Recorder(fail_at=1)
    composite = CompositeTracker([good, bad][::order])
    composite.log(1, {"a": 1.0})
    with pytest.warns(UserWarning, match="Recorder failed and is switched off: the sink is gone"):
        composite.log(2, {"a": 2.0})
    composite.log(3, {"a": 3.0})  # and no second warning
    composite.close()
    assert [steps for steps, _ in good.logged] == [1, 2, 3]
    assert good.closed
    assert bad.calls == 2


def test_closing_one_that_fails_still_closes_the_other():
    bad, good = Recorder(fail_at=0), Recorder()
    with pytest.warns(UserWarning, match="switched off"):
        CompositeTracker([bad, good]).close()
    assert good.closed


def test_tensorboard_files_hold_what_was_logged(tmp_path):
    tracker = TensorBoardTracker(tmp_path, None)
    tracker.log(10, {"critic/loss": 1.5, "evaluation/success": 0.25})
    tracker.log(20, {"critic/loss": 0.5})
    tracker.close()
    assert scalars_shown(tmp_path) == {
        ("critic/loss", 10): 1.5,
        ("evaluation/success", 10): 0.25,
        ("critic/loss", 20): 0.5,
    }


@pytest.mark.parametrize("enabled", [True, False])
def test_the_config_decides_whether_tensorboard_is_written(tmp_path, enabled):
    tracker = build_tracker(tmp_path, TrackingConfig(tensorboard=enabled), {}, None)
    tracker.log(1, {"a": 1.0})
    tracker.close()
    assert (tmp_path / "tensorboard").exists() is enabled


WANDB = TrackingConfig(wandb=True, tensorboard=False)


def test_wandb_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'kilolayer\[wandb\]'"):
        build_tracker(tmp_path, TrackingConfig(wandb=True, tensorboard=False), {}, None)


def test_wandb_logs_each_directory_as_a_run_of_its_own_and_a_resumed_one_as_the_same(
    tmp_path, monkeypatch
):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = TrackingConfig(wandb=True, tensorboard=False)
    directories = [tmp_path / name for name in ("seed_0", "seed_1")]
    for directory in directories:
        directory.mkdir()
    together = [build_tracker(directory, config, {}, None) for directory in directories]
    for step in (10, 20):
        for number, tracker in enumerate(together):
            tracker.log(step, {"critic/loss": number + step / 100})
    together[0].log(20, {"evaluation/success": 0.5})
    for tracker in together:
        tracker.close()
    resumed = build_tracker(directories[0], config, {}, 11)
    resumed.log(30, {"critic/loss": 0.3})
    resumed.close()

    first, second = (wandb_history(directory) for directory in directories)
    assert len(first) == len(second) == 1  # the ids of the runs there
    assert first.keys() != second.keys()
    assert next(iter(first.values())) == {
        ("critic/loss", 10): 0.1,
        ("critic/loss", 20): 0.2,
        ("evaluation/success", 20): 0.5,
        ("critic/loss", 30): 0.3,
    }
    assert next(iter(second.values())) == {("critic/loss", 10): 1.1, ("critic/loss", 20): 1.2}


@pytest.fixture
def reports_allowed(monkeypatch):
    """No answer yet to whether wandb may report on its use; one that is given here goes after."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")


@pytest.fixture
def wandb_server(monkeypatch, tmp_path, reports_allowed):
    """The real package, in this process without an account; what asks its server is noted."""
    pytest.importorskip("wandb")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield listener
    listener.close()


IN_A_PROCESS = """
from pathlib import Path
from kilolayer.errors import UserError
from kilolayer.runtime.tracking import TrackingConfig, build_tracker
Path("run").mkdir()
try:
    tracker = build_tracker(Path("run"), TrackingConfig(wandb=True, tensorboard=False), {}, None)
    tracker.log(1, {"a": 1.0})
    tracker.close()
except UserError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, None),
        ({"WANDB_DIR": "/proc/nowhere"}, None),  # its files lie in the run directory
        ({"WANDB_MODE": "offlin"}, r"WANDB_MODE = 'offlin'.*choice is offline"),
        ({"WANDB_MODE": "online"}, r"No API key configured.*`wandb login`"),
        ({"WANDB_MODE": "online", "WANDB_API_KEY": "short"}, r"40\+ characters.*WANDB_API_KEY"),
        ({"WANDB_MODE": "online", "WANDB_API_KEY": "x y" * 20}, r"WANDB_API_KEY"),
        ({"WANDB_SILENT": "maybe"}, r"silent .*valid boolean.*correct the setting"),
        ({"WANDB_PROJECT": "a/b"}, r"Invalid project name 'a/b'.*correct the setting"),
    ],
)
def test_the_real_wandb_is_answered_and_asks_no_server(tmp_path, wandb_server, environment, told):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    refusal = re.search(r"refused: (.*)", done.stdout)
    if told is None:
        assert refusal is None, done.stdout
        assert len(wandb_history(tmp_path / "run")) == 1
    else:
        assert refusal is not None, done.stdout + done.stderr
        assert re.search(told, refusal[1])
    with pytest.raises(TimeoutError):  # nobody has called
        wandb_server.accept()


@pytest.fixture
def own_wandb(tmp_path, monkeypatch, reports_allowed):
    """Import a package called wandb that is this text."""

    def write(text: str | None) -> None:
        (tmp_path / "packages" / "wandb").mkdir(parents=True)
        if text is not None:
            (tmp_path / "packages" / "wandb" / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / "packages")
        monkeypatch.delitem(sys.modules, "wandb", raising=False)

    yield write
    sys.modules.pop("wandb", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # Such as one that is too old for the NumPy or the protobuf that is there.
        ("raise TypeError('Descriptors cannot be created')", r"imported \(TypeError.*\[wandb\]"),
        ("import a_part_that_is_missing", r"imported \(ModuleNotFoundError.*a_part_that"),
    ],
)
def test_a_wandb_that_breaks_on_import_is_told(tmp_path, own_wandb, text, told):
    own_wandb(text)
    with pytest.raises(OutsideError, match=told):
        build_tracker(tmp_path, WANDB, {}, None)


def test_a_folder_called_wandb_is_not_the_package(tmp_path, own_wandb, monkeypatch):
    own_wandb(None)
    # An installed package would go before such a folder.
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    with pytest.raises(UserError, match=r"pip install 'kilolayer\[wandb\]'"):
        build_tracker(tmp_path, WANDB, {}, None)


@pytest.mark.parametrize(("asked", "found"), [(None, "false"), ("true", "true")])
def test_wandb_does_not_report_on_its_use_unless_asked(
    tmp_path, own_wandb, monkeypatch, asked, found
):
    if asked:
        monkeypatch.setenv("WANDB_ERROR_REPORTING", asked)
    own_wandb("import os\nat_import = os.environ.get('WANDB_ERROR_REPORTING')\ninit = dict")
    build_tracker(tmp_path, WANDB, {}, None)
    assert sys.modules["wandb"].at_import == found


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\x00"])
def test_a_damaged_id_is_replaced_and_a_whole_one_kept(tmp_path, own_wandb, content):
    own_wandb("init = lambda **given: given")
    (tmp_path / "wandb_id").write_bytes(content)
    build_tracker(tmp_path, WANDB, {}, 7)
    first = (tmp_path / "wandb_id").read_text()
    assert len(first) == 32
    build_tracker(tmp_path, WANDB, {}, 7)
    assert (tmp_path / "wandb_id").read_text() == first


class BrokenWandb:
    """Stands in for the package: its `init` fails as it does for somebody who is not logged in."""

    @staticmethod
    def init(**_):
        raise RuntimeError("api_key not configured (no-tty)")


@pytest.fixture
def broken_wandb(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", BrokenWandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_a_new_run_that_cannot_log_to_wandb_is_refused_with_the_way_out(tmp_path, broken_wandb):
    with pytest.raises(OutsideError, match=r"api_key not configured.*`wandb login`.*offline"):
        build_tracker(tmp_path, WANDB, {}, None)


@pytest.mark.parametrize("mode", ["offlne", "", "Online", "yes"])
def test_a_mistyped_mode_of_wandb_is_told(tmp_path, broken_wandb, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=f"WANDB_MODE = '{mode}'.*one of online, offline"):
        build_tracker(tmp_path, WANDB, {}, None)


def test_resumed_run_continues_without_a_failing_tracker(tmp_path, broken_wandb, monkeypatch):
    with pytest.warns(UserWarning, match=r"Weights & Biases .*: the run goes on without it"):
        build_tracker(tmp_path, WANDB, {}, 0).log(1, {"a": 1.0})

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(TensorBoardTracker, "__init__", read_only)
    for purge_from in (None, 0, 7):
        with pytest.warns(UserWarning, match=r"TensorBoard cannot .*Read-only.*goes on without"):
            build_tracker(tmp_path, TrackingConfig(), {}, purge_from).close()


def test_a_full_disk_switches_tensorboard_off_and_nothing_waits_for_it(tmp_path):
    tensorboard, other = TensorBoardTracker(tmp_path, None), Recorder()
    tensorboard.close()
    tensorboard._file = open("/dev/full", "wb")  # noqa: SIM115
    tracker = CompositeTracker([tensorboard, other])
    with pytest.warns(UserWarning, match="TensorBoardTracker failed.*No space left"):
        tracker.log(0, {"a": 1.0})
    for step in range(1, 100):  # more than any queue holds
        tracker.log(step, {"a": 1.0})
    tracker.close()
    assert len(other.logged) == 100
    assert other.closed
