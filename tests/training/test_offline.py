"""Learning from a dataset: boundaries, what a run leaves behind, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kilolayer
from kilolayer.agents.sac import SAC
from kilolayer.analysis.load import load
from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.physics.gymnasium import GymnasiumWorld
from kilolayer.replay import hindsight
from kilolayer.replay.buffer import Buffer
from kilolayer.replay.dataset import Dataset, write_dataset
from kilolayer.report.run_report import headline
from kilolayer.report.run_sections import learning_curves
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import resume_run, start_run
from kilolayer.training.offline import buffer_from_dataset, open_dataset
from kilolayer.training.rounds import TrainingLoop
from kilolayer.training.saving import restore_state
from kilolayer.training.seeds import Seeds


@pytest.fixture(scope="module")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datasets") / "point.npz"
    kilolayer.collect("point_u_maze", path, 1_000, progress=False)
    return path


@pytest.fixture(scope="module")
def config(dataset_file: Path) -> RunConfig:
    """Twenty rounds of eight updates, with an evaluation every five."""
    return run_config(
        agent="gcbc",
        dataset=str(dataset_file),
        total_steps=3_200,
        num_envs=8,
        unroll_length=20,
        update_to_data=1 / 20,
        layers_per_block=1,
        depth=2,
        width=16,
        batch_size=16,
        eval_envs=4,
        num_evaluations=4,
        tensorboard=False,
    )


@pytest.fixture(scope="module")
def unbroken(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return start_run(config, tmp_path_factory.mktemp("runs") / "unbroken", SilentDisplay())


def test_goals_are_later_steps_of_the_same_trajectory() -> None:
    """Trajectories of 3, 1, 250 and 2 steps, longer than the task's episodes, in a point maze
    whose every qpos says which step it is."""
    lengths = np.array([3, 1, 250, 2])
    ends = np.isin(np.arange(256), lengths.cumsum() - 1)
    label = np.arange(256, dtype=np.float32)[:, None].repeat(2, 1)
    dataset = Dataset(label.repeat(2, 1), label / 256, ends, label, 0 * label, {})
    task = make_task("point_u_maze")
    assert dataset.longest > task.episode_length
    buffer = buffer_from_dataset(run_config(), task, dataset, SilentDisplay())
    sample = jax.jit(lambda b, key: hindsight.sample(b, key, 20_000, 1.0, dataset.longest))
    batch = sample(buffer, jax.random.key(0))
    step, goal = np.asarray(batch.observation)[:, 0], np.asarray(batch.goal)[:, 0]
    trajectory = np.repeat(np.arange(4), lengths)
    assert (goal > step).all()
    assert (trajectory[goal.astype(int)] == trajectory[step.astype(int)]).all()
    # All but the last step of each, and goals up to the end.
    assert set(step) == set(np.flatnonzero(~ends))
    assert {1, 2, 253, 255} <= set(goal)
    assert (goal - step).max() > task.episode_length


def test_ends_of_trajectories_are_no_terminations(tmp_path) -> None:
    """Trajectories of 3 and 6 steps, for an agent that bootstraps its values."""
    rows = {"observations": 4, "actions": 2, "qpos": 2, "qvel": 2}
    steps = {name: np.full((9, size), 0.5) for name, size in rows.items()}
    steps["observations"][:, 0] = np.arange(9)
    ends = np.isin(np.arange(9), (2, 8))
    write_dataset(tmp_path / "d.npz", steps | {"terminals": ends})
    config = run_config(agent="gcbc", dataset=str(tmp_path / "d.npz"), batch_size=6)
    trainer = build_trainer(config)
    agent = SAC(batch_size=512).on(trainer.agent.bound)
    trainer = dataclasses.replace(trainer, agent=agent)
    assert trainer.dataset is not None
    buffer = buffer_from_dataset(config, trainer.task, trainer.dataset, SilentDisplay())

    def sample(buffer: Buffer) -> hindsight.Batch:
        state: Any = SimpleNamespace(buffer=buffer, unrolls=1)
        return trainer.sample(state, jax.random.key(0))

    batch = jax.jit(sample)(buffer)
    assert not batch.terminated.any()
    assert set(np.asarray(batch.observation)[:, 0]) == set(np.flatnonzero(~ends))


def test_run_that_stops_names_its_updates(config, tmp_path) -> None:
    run = RunDirectory.create(tmp_path / "run", config, {})
    loop = TrainingLoop(build_trainer(config), Seeds((0,)), run, [], SilentDisplay())
    state: Any = SimpleNamespace(envs=jnp.zeros(1), agent=jnp.full(1, jnp.nan))
    with pytest.raises(UserError, match=r"not finite after 16 updates \(round 2\): the run stops"):
        loop._require_finite(2, {}, state)


def test_offline_run_learns_without_environment_steps(
    unbroken: RunDirectory, config: RunConfig
) -> None:
    events = unbroken.read_events()
    train = [event for event in events if event["event"] == "train"]
    assert [event["updates"] for event in train] == [8 * (index + 1) for index in range(20)]
    assert {event["env_steps"] for event in events} == {0}
    assert (
        sum(event["event"] == "evaluation" for event in events) == 5 + 1
    )  # of the training goals at the last alone
    series = {name: [event["metrics"][name] for event in train] for name in train[0]["metrics"]}
    assert {"actor/loss", "actor/squared_error", "actor/entropy"} <= set(series)
    assert [name for name, values in series.items() if len(set(values)) < 2] == []
    assert np.mean(series["actor/loss"][-5:]) < np.mean(series["actor/loss"][:5])
    profile = events[-1]["seconds_per_round"]
    assert set(profile) == {"sampling", "update"}
    manifest = json.loads((unbroken.path / "manifest.json").read_text())
    assert manifest["dataset"]["path"] == config.collection.dataset
    assert manifest["dataset"]["bytes"] == Path(str(config.collection.dataset)).stat().st_size


def test_checkpoint_does_not_contain_the_dataset(unbroken: RunDirectory) -> None:
    newest = checkpoint.latest(unbroken.checkpoints)
    assert newest is not None
    names = checkpoint.stored_arrays(unbroken.checkpoints, newest, checkpoint.LOOP)
    assert any("qpos" in name for name in names)  # the environments' own
    assert not any("achieved_goal" in name for name in names)


def test_the_report_counts_updates(unbroken: RunDirectory) -> None:
    run = load(unbroken.path)
    assert run.curve("evaluation/success")[0].tolist() == [0, 40, 80, 120, 160]
    assert "updates from a dataset" in headline(run)
    curves = learning_curves(run)
    assert "Learning curves over updates" in curves
    assert "environment steps" not in curves


class Killed(SilentDisplay):
    """Ends the process's work, as a kill would, when so many rounds are done."""

    def __init__(self, after: int):
        self.after = after

    def advance(self, done: int, total: int, **figures: float) -> None:
        if total == 20 and done > self.after:
            raise InterruptedError


def test_resumed_run_ends_bit_identically(unbroken, config, tmp_path, assert_trees_equal) -> None:
    with pytest.raises(InterruptedError):
        start_run(config, tmp_path / "killed", Killed(after=12))
    killed = RunDirectory.open(tmp_path / "killed")
    assert checkpoint.latest(killed.checkpoints) == 10
    resume_run(killed.path, SilentDisplay())
    trainer = build_trainer(config)
    states = [restore_state(run, 20, trainer) for run in (unbroken, killed)]
    assert_trees_equal(*states)
    scores = [
        [e["metrics"] for e in run.read_events() if e["event"] in ("train", "evaluation")]
        for run in (unbroken, killed)
    ]
    assert scores[0] == scores[1]


def test_changed_dataset_is_refused_on_resume(unbroken, config, tmp_path) -> None:
    """The run with another config, as if its file had been rewritten."""
    stored = dict(np.load(str(config.collection.dataset), allow_pickle=False))
    file = tmp_path / "other.npz"
    write_dataset(file, stored | {"actions": -stored["actions"]})
    manifest = json.loads((unbroken.path / "manifest.json").read_text())
    run = RunDirectory.create(tmp_path / "run", config.having(dataset=str(file)), manifest).path
    shutil.copytree(unbroken.checkpoints, run / "checkpoints", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"other.npz has changed since the run .*put the old file"):
        resume_run(run, SilentDisplay())
    file.unlink()
    with pytest.raises(UserError, match="there is no such file"):
        resume_run(run, SilentDisplay())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "ant"}, "its observations have 4 numbers where task ant has 29"),
        ({"batch_size": 5_000}, "batch_size = 5000 .*holds 995 steps with a future, .*is 995"),
        (
            {"agent": "crl", "absorbing_termination": True},
            "absorbing_termination = True .*terminated from truncated",
        ),
        ({"agent": "gcsl"}, "agent = 'gcsl' is not allowed: it cannot learn from a dataset"),
        ({"dataset": None}, "agent = 'gcbc' is not allowed: it learns from a dataset"),
    ],
)
def test_settings_that_do_not_fit_the_dataset_are_refused(changes, words, config, tmp_path) -> None:
    with pytest.raises(UserError, match=words):
        start_run(config.having(**changes), tmp_path / "run", SilentDisplay())
    assert not (tmp_path / "run").exists()


def test_dataset_with_another_action_size_is_refused(config, tmp_path) -> None:
    stored = dict(np.load(str(config.collection.dataset), allow_pickle=False))
    write_dataset(tmp_path / "d.npz", stored | {"actions": stored["actions"][:, :1]})
    own = config.having(dataset=str(tmp_path / "d.npz"))
    with pytest.raises(UserError, match="actions have 1 numbers where task point_u_maze has 2"):
        open_dataset(own, make_task("point_u_maze"))


def test_gymnasium_environments_cannot_train_from_a_dataset(config) -> None:
    task = SimpleNamespace(world=GymnasiumWorld("PointMaze_UMaze-v3", 0.1))
    with pytest.raises(UserError, match="minari:NAME, or leave --gym out"):
        open_dataset(config, task)  # type: ignore[arg-type]
