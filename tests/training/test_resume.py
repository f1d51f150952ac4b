"""A killed run ends like one that was never killed, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from event_files import scalars_shown
from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime import checkpoint
from kilolayer.runtime.progress import SilentDisplay
from kilolayer.runtime.stopping import Terminated
from kilolayer.training import programs
from kilolayer.training.build import build_trainer
from kilolayer.training.loop import resume_run, start_run
from old_checkpoints import as_before

CONFIG = run_config(
    total_steps=16_000,
    num_envs=8,
    unroll_length=10,
    layers_per_block=1,
    depth=2,
    width=16,
    batch_size=16,
    eval_envs=4,
    num_evaluations=12,
    replay_steps_per_env=300,
    min_replay_steps_per_env=50,
    update_to_data=1 / 20,
    discount=0.98,
    contrastive_loss="symmetric",
    shuffled_goal_share=0.5,
    average_decay=0.9,
    tensorboard=False,
    profile=False,
)
# Without the report: it takes longer than the training.
TRAIN = """
import sys
from pathlib import Path
import kilolayer
kilolayer.train(kilolayer.RunConfig.read(Path(sys.argv[1])), sys.argv[2], report=False)
"""
RESUME = """
import sys
from kilolayer.api import resume
resume(sys.argv[1], report=False)
"""


def start(program: str, *arguments: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def arrays_of(directory: Path) -> dict[str, np.ndarray]:
    """Every leaf of the newest checkpoint: agent, environments, buffer, key."""
    run = RunDirectory.open(directory)
    like = jax.eval_shape(build_trainer(run.config).init)
    step = checkpoint.latest(run.checkpoints)
    assert step is not None
    agent = checkpoint.restore(run.checkpoints, step, checkpoint.AGENT, like.checkpointed)
    loop = (like.buffer, like.envs, like.key, like.unrolls)
    loop = checkpoint.restore(run.checkpoints, step, checkpoint.LOOP, loop)
    leaves = jax.tree_util.tree_flatten_with_path((agent, loop))[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name, strict=True)


@pytest.mark.slow
def test_run_killed_at_random_times_resumes_bit_identically(tmp_path: Path) -> None:
    unbroken, killed, config = (tmp_path / name for name in ("unbroken", "killed", "config.json"))
    config.write_text(CONFIG.to_json())
    start_run(CONFIG, unbroken, SilentDisplay())

    moments = random.Random(7)
    process = start(TRAIN, config, killed)
    kills = 0
    for events in (moments.randint(15, 60), moments.randint(120, 180)):
        metrics = killed / "metrics.jsonl"
        while process.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= events:
                time.sleep(moments.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.communicate()
        if (killed / "DONE").exists():
            break
        process = start(RESUME, killed)
    finish(process)

    assert kills >= 2
    assert_same(arrays_of(unbroken), arrays_of(killed))
    scores = [
        [e["metrics"] for e in RunDirectory.open(path).read_events() if e["event"] == "evaluation"]
        for path in (unbroken, killed)
    ]
    assert scores[0] == scores[1]
    assert {"compile", "train", "evaluate"} <= set(
        RunDirectory.open(killed).read_events()[-1]["seconds"]
    )


def test_restored_native_environments_continue_bit_identically(tmp_path: Path) -> None:
    config = run_config(
        task="ant",
        num_envs=4,
        unroll_length=5,
        layers_per_block=1,
        depth=2,
        width=8,
        batch_size=8,
        update_to_data=0.1,
        replay_steps_per_env=50,
        min_replay_steps_per_env=10,
    )
    trainer = build_trainer(config)
    train_round = jax.jit(trainer.round)
    state = jax.jit(trainer.init)()
    for _ in range(4):
        state = train_round(state)[0]
    loop = (state.buffer, state.envs, state.key, state.unrolls)
    checkpoint.save(tmp_path, 4, state.agent, loop)
    like = jax.eval_shape(trainer.init)
    agent = checkpoint.restore(tmp_path, 4, checkpoint.AGENT, like.agent)
    loop = (like.buffer, like.envs, like.key, like.unrolls)
    loop = checkpoint.restore(tmp_path, 4, checkpoint.LOOP, loop)
    restored = jax.tree.map(jax.numpy.asarray, type(state)(agent, None, *loop))
    for _ in range(3):
        state, restored = train_round(state)[0], train_round(restored)[0]
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_restored_mjx_environments_continue_bit_identically(tmp_path: Path) -> None:
    """Only the environments: the rest is the same on every engine."""
    config = run_config(task="reacher", physics="mjx", num_envs=4, depth=2, layers_per_block=1)
    trainer = build_trainer(config.having(width=8))
    step = jax.jit(trainer.physics.step)
    control = jax.numpy.full((4, 2), 0.5)
    state = jax.jit(trainer.init)()
    envs = step(state.envs.physics, control)
    checkpoint.save(tmp_path, 1, state.agent, envs)
    like = jax.eval_shape(trainer.init).envs.physics
    restored = checkpoint.restore(tmp_path, 1, checkpoint.LOOP, like)
    envs, restored = (step(state, control) for state in (envs, restored))
    for one, other in zip(jax.tree.leaves(envs), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


TINY = run_config(
    total_steps=1_000,
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
)


class KilledAt(SilentDisplay):
    """Ends a run when a phase begins for the given time."""

    def __init__(self, name: str, count: int = 1):
        self.name, self.left = name, count

    def phase(self, name: str) -> None:
        self.left -= name == self.name
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run of `TINY`."""
    return start_run(TINY, tmp_path_factory.mktemp("runs") / "unbroken", SilentDisplay())


def test_finished_run_cannot_be_resumed(unbroken) -> None:
    with pytest.raises(UserError, match="has finished: there is nothing to resume"):
        resume_run(unbroken.path, SilentDisplay())


def empty_files(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def flip_a_bit(directory: Path) -> None:
    victim = directory / "loop.safetensors"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)


@pytest.mark.parametrize("damage", [empty_files, flip_a_bit])
def test_run_resumes_from_the_checkpoint_before_a_damaged_one(
    unbroken, tmp_path: Path, damage
) -> None:
    with pytest.raises(KeyboardInterrupt):
        start_run(TINY, tmp_path / "run", KilledAt("profile"))
    run = RunDirectory.open(tmp_path / "run")
    before, newest = checkpoint.steps(run.checkpoints)
    damage(run.checkpoints / f"{newest:012d}")
    notes: list[str] = []
    display = SilentDisplay()
    display.note = notes.append  # type: ignore[method-assign]
    resume_run(run.path, display)
    assert any("damaged" in note and f"goes on from round {before}" in note for note in notes)
    assert run.read_events()[-1]["event"] == "profile"
    assert_same(arrays_of(unbroken.path), arrays_of(run.path))


def test_run_with_orbax_checkpoints_resumes_bit_identically(unbroken, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start_run(TINY, tmp_path / "run", KilledAt("train", 20))
    run = RunDirectory.open(tmp_path / "run")
    as_before(run.checkpoints)
    before = checkpoint.steps(run.checkpoints)
    assert before
    assert not list(run.checkpoints.rglob("*.safetensors"))
    resume_run(run.path, SilentDisplay())
    assert checkpoint.steps(run.checkpoints)[-1] > before[-1]
    assert_same(arrays_of(unbroken.path), arrays_of(run.path))


def test_evaluations_after_the_last_checkpoint_are_repeated(tmp_path: Path) -> None:
    config = TINY.having(num_evaluations=6, num_checkpoints=2, profile=False)
    unbroken = start_run(config, tmp_path / "unbroken", SilentDisplay())
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "run", KilledAt("train", 20))
    run = RunDirectory.open(tmp_path / "run")
    last = checkpoint.latest(run.checkpoints)
    assert last is not None
    evaluated = evaluations_of(run)
    assert [rounds for rounds in evaluated if rounds > last]
    resume_run(run.path, SilentDisplay())
    assert evaluations_of(run) == evaluations_of(unbroken)
    assert checkpoint.steps(run.checkpoints) == checkpoint.steps(unbroken.checkpoints)
    assert_same(arrays_of(unbroken.path), arrays_of(run.path))


def evaluations_of(run: RunDirectory) -> dict[int, dict[str, float]]:
    """The scores by round, each of which stands once in the log."""
    found = [e for e in run.read_events() if e["event"] == "evaluation"]
    scores = {event["round"]: event["metrics"] for event in found if is_headline(event)}
    assert len(scores) == sum(map(is_headline, found))
    return scores


def is_headline(event: dict) -> bool:
    return "evaluation/time_at_goal" in event["metrics"]


class AskedAt(SilentDisplay):
    """Sends this process a signal when a phase begins for the given time."""

    def __init__(self, name: str, number: signal.Signals, count: int = 1):
        self.name, self.number, self.left = name, number, count

    def phase(self, name: str) -> None:
        self.left -= name == self.name
        if self.left == 0 and name == self.name:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)],
)
def test_stopped_run_saves_and_resumes_bit_identically(
    unbroken, tmp_path: Path, number, kind
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(kind) as stop:
        start_run(TINY, tmp_path / "run", AskedAt("train", number, 4))
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert stop.value.__notes__ == [f"`kilolayer train --resume {tmp_path / 'run'}` goes on"]
    run = RunDirectory.open(tmp_path / "run")
    trained = [event["round"] for event in run.read_events() if event["event"] == "train"]
    assert len(trained) == 4
    assert checkpoint.newest_intact(run.checkpoints) == (trained[-1], [])
    assert_same(arrays_of(unbroken.path), arrays_of(resume_run(run.path, SilentDisplay()).path))


@pytest.fixture
def interruptible():
    """Ctrl-C ends this process, though a shell that started it in the background said otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("phase", ["compile", "prefill"])
def test_run_stopped_before_training_leaves_no_files(tmp_path: Path, phase) -> None:
    with pytest.raises(KeyboardInterrupt) as stop:
        start_run(TINY, tmp_path / "run", AskedAt(phase, signal.SIGINT))
    assert stop.value.__notes__ == ["the run had not trained yet, so its directory was deleted"]
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_train_in_one_directory(tmp_path: Path) -> None:
    class Second(SilentDisplay):
        def phase(self, name: str) -> None:
            for again in (start_run, lambda _, path, display: resume_run(path, display)):
                with pytest.raises(UserError, match=r"exists already|another process trains"):
                    again(TINY, tmp_path / "run", SilentDisplay())

    start_run(TINY, tmp_path / "run", Second())
    assert RunDirectory.open(tmp_path / "run").finished


def test_directory_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        resume_run(tmp_path, SilentDisplay())


def test_evaluation_does_not_change_training_randomness(unbroken, tmp_path: Path) -> None:
    often = TINY.having(num_evaluations=5, eval_envs=3, profile=False)
    other = start_run(often, tmp_path / "often", SilentDisplay())
    assert_same(arrays_of(unbroken.path), arrays_of(other.path))


@pytest.mark.parametrize("updates", [5, 15])
def test_resumed_run_keeps_all_tensorboard_points(tmp_path: Path, updates: int) -> None:
    """Killed before its first checkpoint, and a few updates after it."""
    config = TINY.having(tensorboard=True)
    unbroken = start_run(config, tmp_path / "unbroken", SilentDisplay())
    with pytest.raises(KeyboardInterrupt):
        start_run(config, tmp_path / "killed", KilledAt("train", updates))
    resumed = resume_run(tmp_path / "killed", SilentDisplay())
    shown = scalars_shown(unbroken.path)
    assert len({step for tag, step in shown if tag == "critic/loss"}) > 20
    assert scalars_shown(resumed.path) == shown


def test_update_times_survive_a_kill_after_the_last_checkpoint(tmp_path: Path, monkeypatch) -> None:
    # Updates take what the other parts leave of a round, which may be nothing on a busy machine.
    monkeypatch.setattr(programs, "_time", lambda *_: 1e-9)
    with pytest.raises(KeyboardInterrupt):
        start_run(TINY, tmp_path / "run", KilledAt("profile"))
    run = resume_run(tmp_path / "run", SilentDisplay())
    events = run.read_events()
    profiles = [event for event in events if event["event"] == "profile"]
    assert [each["seconds_per_round"]["update"] > 0 for each in profiles] == [True]
