"""Trackers: one that fails never loses another."""

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


class BrokenWandb:
    """Stands in for the package: its `init` fails as it does for somebody who is not logged in."""

    @staticmethod
    def init(**_):
        raise RuntimeError("api_key not configured (no-tty)")


@pytest.fixture
def broken_wandb(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", BrokenWandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)


WANDB = TrackingConfig(wandb=True, tensorboard=False)


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
