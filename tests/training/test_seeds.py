"""Several seeds as one program: each equals the run with that single seed."""

from pathlib import Path

import jax
import numpy as np
import pytest

from kilolayer.analysis.load import load
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.physics.native import NativePhysics
from kilolayer.report.run_report import time_section
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.tasks.registry import make_task
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import resume_run, start_run
from kilolayer.training.saving import restore_state
from kilolayer.training.seeds import Seeds

TINY = run_config(
    seed=3,
    total_steps=1_200,
    num_envs=4,
    unroll_length=10,
    layers_per_block=1,
    depth=2,
    width=8,
    batch_size=8,
    eval_envs=2,
    num_evaluations=4,
    replay_steps_per_env=100,
    min_replay_steps_per_env=20,
    tensorboard=False,
)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return start_run(TINY, tmp_path_factory.mktemp("seeds") / "runs", SilentDisplay(), seeds=3)


def train_metrics(run: RunDirectory) -> list[dict[str, float]]:
    return [event["metrics"] for event in run.read_events() if event["event"] == "train"]


@pytest.mark.slow
def test_seeds_trained_together_match_single_runs(together, tmp_path) -> None:
    assert [member.config.seed for member in together.members] == [3, 4, 5]
    alone = start_run(TINY.having(seed=4), tmp_path / "alone", SilentDisplay())
    one, other = train_metrics(alone), train_metrics(together.members[1])
    assert len(one) == len(other) > 10
    # Rounding differs where a product runs over a batch of matrices, and grows from there.
    for name, value in one[0].items():
        np.testing.assert_allclose(other[0][name], value, rtol=1e-4, err_msg=name)
    assert other[0] != train_metrics(together.members[0])[0]


def test_runs_of_seeds_open_one_by_one(together) -> None:
    policy = load(together.members[2].path).policy
    assert np.isfinite(policy(np.zeros(4), np.zeros(2))).all()
    with pytest.raises(UserError, match=r"holds 3 runs: name one, such as .*seed_3"):
        load(together.path)


def test_killed_seeds_continue_bit_identically(together, tmp_path, monkeypatch) -> None:
    save, calls = checkpoint.save, []

    def die_in_the_middle(*arguments):
        """After two of the three seeds' own checkpoints of the second time."""
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", die_in_the_middle)
    path = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        start_run(TINY, path, SilentDisplay(), seeds=3)
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = resume_run(path, SilentDisplay())
    trainer, seeds = build_trainer(TINY), Seeds((3, 4, 5))
    last = checkpoint.latest(together.checkpoints)
    assert last is not None
    states = [restore_state(run, last, trainer, seeds) for run in (together, resumed)]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(together.members, resumed.members, strict=True):
        assert train_metrics(one) == train_metrics(other)


def test_native_environments_of_several_seeds_match_single_seeds() -> None:
    task = make_task("reacher")
    physics = NativePhysics(task.world, 2, threads=1)
    rng = np.random.default_rng(0)
    qpos, qvel, control = (rng.normal(size=(3, 2, 2)).astype(np.float32) for _ in range(3))

    def play(qpos, qvel, control):
        state = physics.step(physics.init(qpos, qvel), control)
        return physics.reset(state, np.array([True, False]), qvel, qpos)

    together = jax.vmap(play)(qpos, qvel, control)
    for index in range(3):
        alone = play(qpos[index], qvel[index], control[index])
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(one, other[index])


def test_invalid_seed_combinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seeds = 0 is not allowed"):
        start_run(TINY, tmp_path / "none", SilentDisplay(), seeds=0)


def test_the_largest_seed_trains(tmp_path: Path) -> None:
    last = TINY.having(seed=2**32 - 1, num_evaluations=1)
    assert start_run(last, tmp_path / "run", SilentDisplay()).finished


def test_all_bits_of_a_seed_are_used() -> None:
    key = jax.jit(lambda seed: jax.random.key_data(jax.random.key(seed)))
    for seed in (0, 2**31 - 1, 2**31, 2**32 - 1):
        np.testing.assert_array_equal(key(Seeds((seed,)).array()), [0, seed])
        np.testing.assert_array_equal(jax.random.key_data(jax.random.key(seed)), [0, seed])


def test_consecutive_seeds_must_all_be_valid(tmp_path: Path) -> None:
    last = TINY.having(seed=2**32 - 2)
    with pytest.raises(UserError, match=r"seeds = 3 is not allowed: .* nearest valid choice is 2"):
        start_run(last, tmp_path / "run", SilentDisplay(), seeds=3)
    assert not (tmp_path / "run").exists()


def test_first_seed_is_selected_without_copying_the_others() -> None:
    class Recorded:
        def __init__(self, rows):
            self.rows, self.taken = rows, []

        def __getitem__(self, index):
            self.taken.append(index)
            return self.rows[index]

    weight = Recorded(np.arange(6.0).reshape(3, 2))
    first = Seeds((5, 6, 7)).first({"weight": weight})
    assert weight.taken == [0]
    np.testing.assert_array_equal(first["weight"], [0.0, 1.0])
    assert Seeds((5,)).first(weight) is weight


def test_run_without_profiling_has_no_part_times(tmp_path: Path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("kilolayer.training.rounds.profile_round", never)
    config = TINY.having(profile=False, num_evaluations=1)
    run = start_run(config, tmp_path / "run", SilentDisplay())
    assert run.finished
    assert "--no-profile" in time_section(load(run.path))
