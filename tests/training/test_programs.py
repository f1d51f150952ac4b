"""Programs that a run takes over from an earlier one of the same process."""

from pathlib import Path

import jax
import numpy as np
import pytest

from kilolayer.config import RunConfig, run_config
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import start_run
from kilolayer.training.programs import Programs, _cached, programs_of
from kilolayer.training.seeds import Seeds
from kilolayer.training.step import Trainer

CONFIG = run_config(
    total_steps=400,
    num_envs=4,
    unroll_length=10,
    layers_per_block=1,
    depth=2,
    width=8,
    batch_size=8,
    eval_envs=2,
    num_evaluations=2,
    replay_steps_per_env=100,
    min_replay_steps_per_env=20,
    tensorboard=False,
    profile=False,
)


def programs(config: RunConfig, seeds: int = 1) -> Programs:
    return programs_of(build_trainer(config), Seeds.consecutive(config.seed, seeds))


def test_a_run_that_computes_the_same_takes_over_the_programs() -> None:
    other = CONFIG.having(seed=2**32 - 1, num_evaluations=7, keep_checkpoints=9, profile=True)
    assert programs(other) is programs(CONFIG)
    assert programs(CONFIG, seeds=3) is programs(CONFIG, seeds=2)


@pytest.mark.parametrize(
    "setting",
    [{"discount": 0.9}, {"width": 16}, {"total_steps": 800}, {"eval_envs": 3}, {"samples": 2}],
)
def test_a_run_that_computes_something_else_gets_new_ones(setting) -> None:
    assert programs(CONFIG.having(**setting)) is not programs(CONFIG)


def test_several_seeds_have_other_programs_than_one() -> None:
    assert programs(CONFIG, seeds=2) is not programs(CONFIG)


@pytest.mark.parametrize(
    "own",
    [{"task": "examples.puck:make_puck"}, {"agent": "examples.behaviour_cloning:BehaviourCloning"}],
)
def test_code_of_ones_own_may_have_changed(own) -> None:
    assert programs(CONFIG.having(**own)) is not programs(CONFIG.having(**own))


def agent_of(run: RunDirectory) -> dict[str, np.ndarray]:
    newest = checkpoint.latest(run.checkpoints)
    assert newest is not None
    return dict(checkpoint.stored_arrays(run.checkpoints, newest, checkpoint.AGENT) or {})


@pytest.mark.slow
def test_a_second_seed_traces_nothing_and_is_the_run_it_would_be(tmp_path: Path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    first = start_run(CONFIG, tmp_path / "first", SilentDisplay())
    with monkeypatch.context() as patch:
        for name in ("init", "collect", "round", "sample"):
            patch.setattr(Trainer, name, never)
        second = start_run(CONFIG.having(seed=1), tmp_path / "second", SilentDisplay())
    _cached.cache_clear()
    alone = start_run(CONFIG.having(seed=1), tmp_path / "alone", SilentDisplay())
    found, expected, other = map(agent_of, (second, alone, first))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(other), strict=True)
    assert any(not np.array_equal(one, two) for one, two in leaves)
