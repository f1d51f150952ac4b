"""Runs that go on from another run's networks: what they record, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.analysis.load import load
from kilolayer.config import RunConfig, run_config
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import resume_run, start_run
from kilolayer.training.starting import load_starting_point

SOURCE = run_config(
    total_steps=400,
    num_envs=4,
    unroll_length=10,
    layers_per_block=2,
    depth=6,
    width=8,
    batch_size=8,
    eval_envs=2,
    num_evaluations=2,
    replay_steps_per_env=100,
    min_replay_steps_per_env=20,
    tensorboard=False,
)


class KilledInTraining(SilentDisplay):
    """Ends a run before its first update, when it has no checkpoint yet. An interrupted run removes
    its directory; `killed` is what a kill leaves of it."""

    def __init__(self, run: Path, killed: Path):
        self._run, self._killed = run, killed

    def phase(self, name: str) -> None:
        if name == "train":
            shutil.copytree(self._run, self._killed)
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return start_run(SOURCE, tmp_path_factory.mktemp("runs") / "source", SilentDisplay())


def going_on(source: RunDirectory, **changes: Any) -> RunConfig:
    return SOURCE.having(seed=3, start_from=str(source.path), **changes)


def losses(run: RunDirectory) -> list[float]:
    events = run.read_events()
    return [event["metrics"]["critic/loss"] for event in events if event["event"] == "train"]


@pytest.fixture(scope="module")
def unbroken(source: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return start_run(
        going_on(source), tmp_path_factory.mktemp("runs") / "unbroken", SilentDisplay()
    )


@pytest.mark.slow
def test_run_killed_before_its_first_checkpoint_reloads_its_starting_point(
    source: RunDirectory, unbroken: RunDirectory, tmp_path: Path
) -> None:
    display = KilledInTraining(tmp_path / "run", tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        start_run(going_on(source), tmp_path / "run", display)
    assert not (tmp_path / "run").exists()
    resumed = resume_run(tmp_path / "killed", SilentDisplay())
    assert len(losses(resumed)) > 1
    assert losses(resumed) == losses(unbroken)


def test_manifest_names_the_starting_checkpoint(
    source: RunDirectory, unbroken: RunDirectory
) -> None:
    newest = checkpoint.latest(source.checkpoints)
    assert newest is not None
    listing = source.checkpoints / f"{newest:012d}" / "agent.sha256.json"
    assert json.loads((unbroken.path / "manifest.json").read_text())["start_from"] == {
        "run": str(source.path),
        "round": newest,
        "sha256": checkpoint.sha256_of(listing),
    }


def test_changed_starting_point_is_refused_on_resume(source: RunDirectory, tmp_path: Path) -> None:
    source = RunDirectory.open(shutil.copytree(source.path, tmp_path / "source"))
    display = KilledInTraining(tmp_path / "run", tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        start_run(going_on(source), tmp_path / "run", display)
    newest = checkpoint.latest(source.checkpoints)
    agent = dict(checkpoint.stored_arrays(source.checkpoints, newest, checkpoint.AGENT) or {})
    first = next(iter(agent))
    checkpoint.save(source.checkpoints, newest + 1, agent | {first: agent[first] + 1})
    with pytest.raises(UserError, match=rf"began with round {newest} of .* \(round {newest + 1}\)"):
        resume_run(tmp_path / "killed", SilentDisplay())


OTHER_NETWORKS = [
    ("task", "point_big_maze"),
    ("activation", "relu"),
    ("energy", "dot"),
    ("norm", "rms"),
    ("norm_position", "pre"),
    ("residual", "interpolate"),
    ("branch_activation", False),
    ("branch_scale", "none"),
    ("depth", 4),
    ("actor_depth", 4),
    ("critic_depth", 4),
    ("width", 16),
    ("layers_per_block", 1),
    ("expansion", 2),
    ("representation_dim", 32),
    ("agent", "sac"),
    ("initial_temperature", 0.5),
]


@pytest.mark.parametrize(("field", "value"), OTHER_NETWORKS)
def test_starting_point_with_other_networks_is_refused_by_field(
    source: RunDirectory, tmp_path: Path, field: str, value: Any
) -> None:
    before = SOURCE.flat()[field]
    nearest = SOURCE.network.depth if before is None else before
    expected = f"^{field} = {value!r} is not allowed: .* valid choice is {nearest}.$"
    with pytest.raises(UserError, match=expected):
        start_run(going_on(source, **{field: value}), tmp_path / "run", SilentDisplay())
    assert not (tmp_path / "run").exists()


def stored_agent(path: Path, config: RunConfig, counted: int) -> Any:
    """A checkpoint of a new agent, whose optimisers have counted that many updates."""
    agent = jax.jit(build_trainer(config).agent.init)(jax.random.key(0))
    agent = jax.tree.map(
        lambda leaf: leaf + counted if leaf.dtype == jnp.int32 else leaf + 0.5, agent
    )
    checkpoint.save(RunDirectory.create(path, config, {}).checkpoints, 5, agent)
    return agent


CONSTANT = {"final_learning_rate_share": 1.0, "weight_decay": 0.0}
FALLING = {"final_learning_rate_share": 0.1, "weight_decay": 0.01}


def test_damage_of_the_starting_point_is_told_as_such(source: RunDirectory, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(source.path, broken)
    newest = max((broken / "checkpoints").iterdir())
    (newest / "agent.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"^checkpoint file \S+agent.safetensors is damaged: its"):
        start_run(SOURCE.having(start_from=str(broken)), tmp_path / "run", SilentDisplay())
    shutil.rmtree(broken / "checkpoints")
    with pytest.raises(UserError, match=r"start_from = \S+ is not allowed: it has no checkpoint\."):
        start_run(SOURCE.having(start_from=str(broken)), tmp_path / "run", SilentDisplay())
    with pytest.raises(UserError, match=r"has finished and its checkpoints are gone: restore"):
        load(broken).agent_state  # noqa: B018


@pytest.mark.parametrize(("before", "now"), [(CONSTANT, FALLING), (FALLING, CONSTANT)])
def test_learning_rates_may_fall_where_they_did_not(tmp_path: Path, before, now) -> None:
    stored = stored_agent(tmp_path / "source", SOURCE.having(**before), counted=7)
    trainer = build_trainer(SOURCE.having(**now))
    agent = load_starting_point(tmp_path / "source", trainer).agent.agent
    assert jax.tree.structure(agent) == jax.tree.structure(
        jax.eval_shape(trainer.agent.init, jax.random.key(0))
    )
    for part in ("actor", "critic"):
        adam, old = agent.optimiser[part][0], stored.optimiser[part][0]
        assert adam.count == old.count == 7
        jax.tree.map(np.testing.assert_array_equal, adam.mu, old.mu)
        jax.tree.map(np.testing.assert_array_equal, adam.nu, old.nu)
    jax.tree.map(np.testing.assert_array_equal, agent.parameters, stored.parameters)


def test_falling_target_entropy_restarts_with_a_new_run(tmp_path: Path) -> None:
    falling = SOURCE.having(target_entropy_per_action=0.0, final_target_entropy_per_action=-1.0)
    trainer = build_trainer(falling)
    end = trainer.schedule.updates
    before = stored_agent(tmp_path / "source", falling, end)
    assert float(trainer.agent.target_entropy(before)) == -trainer.task.action_dim
    agent = load_starting_point(tmp_path / "source", trainer).agent.agent
    assert float(trainer.agent.target_entropy(agent)) == 0.0
    jax.tree.map(np.testing.assert_array_equal, agent.parameters, before.parameters)
    # A constant target needs no count, and the temperature's moments stay.
    trainer = build_trainer(SOURCE)
    agent = load_starting_point(tmp_path / "source", trainer).agent.agent
    moments = agent.optimiser["log_temperature"], before.optimiser["log_temperature"]
    jax.tree.map(np.testing.assert_array_equal, *moments)


def test_equivalent_branch_scale_is_accepted(tmp_path: Path) -> None:
    """Two blocks add up unscaled under both."""
    shallow = SOURCE.having(depth=4)
    config = shallow.having(branch_scale="none")
    trainer = build_trainer(config)
    source = RunDirectory.create(tmp_path / "source", shallow, {})
    checkpoint.save(source.checkpoints, 5, jax.jit(trainer.agent.init)(jax.random.key(0)))
    assert load_starting_point(source.path, trainer).origin["round"] == 5
