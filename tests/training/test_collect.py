"""Environments played into a dataset, and what is read back from it."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import kilolayer
from kilolayer.analysis.load import Run
from kilolayer.cli import main
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.physics.build import build_physics
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay.dataset import Dataset, read_dataset
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.base import Task
from kilolayer.tasks.registry import make_task
from kilolayer.training.collect import require_states
from kilolayer.training.offline import buffer_from_dataset


def read_back(task: str, dataset: Dataset):
    """The steps of the one environment that the buffer then holds."""
    buffer = buffer_from_dataset(run_config(task=task), make_task(task), dataset, SilentDisplay())
    assert int(buffer.size) == buffer.capacity == dataset.steps
    assert buffer.num_envs == 1
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], buffer.steps)


def assert_actions_lead_from_row_to_row(task: Task, dataset: Dataset, tolerance: float) -> None:
    """Stepping every recorded state with its action gives the state of the next row."""
    within = np.flatnonzero(~dataset.terminals[:-1])
    physics = build_physics(task.world, len(within))
    step = jax.jit(lambda qpos, qvel, act: physics.step(physics.init(qpos, qvel), act))
    after = step(dataset.qpos[within], dataset.qvel[within], dataset.actions[within])
    np.testing.assert_allclose(after.qpos, dataset.qpos[within + 1], atol=tolerance)


def test_collected_point_maze_steps_match_the_rollout(tmp_path: Path) -> None:
    dataset = kilolayer.collect("point_u_maze", tmp_path / "d.npz", 450, progress=False)
    assert (dataset.steps, dataset.trajectories, dataset.longest) == (450, 3, 200)
    steps = read_back("point_u_maze", dataset)
    np.testing.assert_array_equal(steps.episode_step, [*range(200), *range(200), *range(50)])
    state = np.concatenate([dataset.qpos, dataset.qvel], -1)
    np.testing.assert_array_equal(steps.observation, state)
    np.testing.assert_array_equal(steps.observation, dataset.observations)
    np.testing.assert_array_equal(steps.action, dataset.actions)
    np.testing.assert_array_equal(steps.achieved_goal, dataset.qpos)
    assert np.ptp(dataset.actions, axis=0) == pytest.approx([2, 2], abs=0.05)
    assert len(np.unique(steps.goal, axis=0)) == 450
    assert_actions_lead_from_row_to_row(make_task("point_u_maze"), dataset, 1e-6)


def test_collected_mujoco_steps_match_the_rollout(tmp_path: Path) -> None:
    """The arm's achieved goal is its end effector's position, which qpos does not contain."""
    dataset = kilolayer.collect("arm_reach", tmp_path / "d.npz", 150, progress=False)
    task, steps = make_task("arm_reach"), read_back("arm_reach", dataset)
    assert (steps.episode_step == dataset.episode_step).all()
    names = [coordinate.name for coordinate in task.observation]
    at = names.index(task.goal.coordinates[0].name)
    live = dataset.observations[:, at : at + 3]
    assert np.ptp(live, axis=0).min() > 1e-3
    np.testing.assert_allclose(steps.achieved_goal, live, atol=1e-5)
    assert_actions_lead_from_row_to_row(task, dataset, 1e-4)


def test_collection_uses_the_given_noise_and_seed(tiny_run: Run, tmp_path: Path):
    def played(name: str, **options) -> bytes:
        kilolayer.collect(tiny_run, tmp_path / name, 210, progress=False, **options)
        return (tmp_path / name).read_bytes()

    first = played("a.npz", noise=0.0)
    assert played("b.npz", noise=0.0) == first
    assert played("c.npz", noise=0.0, seed=1) != first
    assert played("d.npz") != first
    exact, noisy = (
        np.load(tmp_path / f"{name}.npz", allow_pickle=False)["actions"] for name in "ad"
    )
    # An untrained policy changes its mind slowly; noise of 0.2 does not.
    jumps = [np.abs(np.diff(actions[:200], axis=0)).mean() for actions in (exact, noisy)]
    assert jumps[0] < 0.05 < jumps[1]
    assert np.abs(noisy).max() <= 1


def test_collect_prints_size_and_checksum(tmp_path: Path, capsys) -> None:
    target = tmp_path / "d.npz"
    main(["collect", "point_u_maze", "--out", str(target), "--steps", "250", "--seed", "3"])
    printed = capsys.readouterr().out
    mark = read_dataset(target).fingerprint
    assert "250 steps in 2 trajectories" in printed
    assert mark["sha256"] in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["point_umaze", "--out", "d.npz"], "task = 'point_umaze' .*choice is point_u_maze"),
        (["runs/none", "--out", "d.npz"], "runs/none is not a run directory"),
        (["ant", "--out", "d.hdf5"], r"out = 'd.hdf5' .*ends in .npz; .*is d.npz"),
        (["ant", "--out", "none/d.npz"], "there is no such directory"),
        (["ant", "--out", "old.npz"], "out = 'old.npz' is not allowed: it exists already"),
        (["ant", "--out", "d.npz", "--noise", "0.1"], "noise = 0.1 .*noise has no effect"),
        (["ant", "--out", "d.npz", "--steps", "1"], "steps = 1 .*at least 2"),
    ],
)
def test_invalid_collections_are_refused(options, words, tmp_path, monkeypatch, capsys) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    Path("old.npz").touch()
    with pytest.raises(SystemExit) as stop:
        main(["collect", "--steps", "100", *options])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error)
    assert [path.name for path in tmp_path.iterdir()] == ["old.npz"]


def test_gymnasium_environments_are_refused() -> None:
    task = SimpleNamespace(world=GymnasiumWorld("PointMaze_UMaze-v3", 0.1), name="PointMaze")
    with pytest.raises(UserError, match="PointMaze is a Gymnasium environment, whose states"):
        require_states(task)  # type: ignore[arg-type]
