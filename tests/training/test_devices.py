"""Many devices, one program: the same losses and the same physics as on one device."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from kilolayer.config import run_config
from kilolayer.errors import UserError
from kilolayer.physics.native import NativePhysics
from kilolayer.run_directory import RunDirectory
from kilolayer.runtime.mesh import fetch_to_host, make_mesh
from kilolayer.schedule import TrainSchedule
from kilolayer.tasks.registry import make_task
from kilolayer.training.build import build_trainer
from kilolayer.training.saving import restore_state, write_state

pytestmark = pytest.mark.slow

SMALL = run_config(
    total_steps=400,
    num_envs=8,
    unroll_length=10,
    depth=2,
    layers_per_block=1,
    width=16,
    batch_size=16,
    contrastive_loss="symmetric",
    shuffled_goal_share=0.3,
    update_to_data=10 / 80,
    episode_length=30,
    replay_steps_per_env=100,
    min_replay_steps_per_env=20,
    eval_envs=4,
    num_evaluations=1,
    tensorboard=False,
)

SAVED = ("saved", "saved_again")
SIZES = (("qpos", 2), ("qvel", 2), ("control", 2))

FOUR_DEVICES = """
    import json, pathlib, sys
    import jax, numpy as np
    from kilolayer.config import RunConfig, run_config
    from kilolayer.physics.native import NativePhysics
    from kilolayer.physics.build import ShardedPhysics
    from kilolayer.runtime.mesh import (
        data_sharded, fetch_to_host, make_mesh, put_on_devices, replicated,
    )
    from kilolayer.run_directory import RunDirectory
    from kilolayer.tasks.registry import make_task
    from kilolayer.training.build import build_trainer
    from kilolayer.training.saving import restore_state, write_state

    root = pathlib.Path(sys.argv[1])
    mesh = make_mesh()
    trainer = build_trainer(RunConfig.read(root / "config.json"), mesh)
    shardings = trainer.shardings
    state = jax.jit(trainer.init, out_shardings=shardings)()
    collect = jax.jit(lambda state: trainer.collect(state)[0], out_shardings=shardings)
    train_round = jax.jit(trainer.round, out_shardings=(shardings, replicated(mesh)))
    state, losses = collect(collect(state)), []
    for _ in range(5):
        state, metrics = train_round(state)
        losses.append([float(metrics["critic/loss"]), float(metrics["actor/loss"])])
    shards = state.buffer.steps.episode_step.addressable_shards
    assert {part.data.shape[1] for part in shards} == {2}
    print(json.dumps(losses))

    state = restore_state(RunDirectory(root / "saved"), 2, trainer)
    write_state(RunDirectory(root / "saved_again"), 2, fetch_to_host(state))

    mesh = make_mesh(model_devices=2)
    trainer = build_trainer(RunConfig.read(root / "config.json"), mesh)
    state = restore_state(RunDirectory(root / "saved"), 2, trainer)
    train_round = jax.jit(trainer.round, out_shardings=(trainer.shardings, replicated(mesh)))
    losses = []
    for _ in range(2):
        state, metrics = train_round(state)
        losses.append([float(metrics["critic/loss"]), float(metrics["actor/loss"])])
    widths = {
        (leaf.shape[-1], leaf.addressable_shards[0].data.shape[-1])
        for leaf in jax.tree.leaves(state.agent) if leaf.ndim > 2
    }
    assert widths == {(16, 8)}, widths
    print(json.dumps(losses))

    mesh = make_mesh()
    task, arrays = make_task("reacher"), np.load(root / "envs.npz")
    physics = ShardedPhysics(NativePhysics(task.world, 2, threads=1), mesh)
    start = put_on_devices((arrays["qpos"], arrays["qvel"]), data_sharded(mesh))
    envs = jax.jit(physics.init)(*start)
    envs = jax.jit(physics.step)(envs, arrays["control"])
    envs = jax.jit(physics.reset)(envs, arrays["mask"], arrays["qpos"], arrays["qvel"])
    assert {part.data.shape[0] for part in envs.qpos.addressable_shards} == {2}
    np.savez(root / "stepped.npz", *jax.tree.leaves(fetch_to_host(envs)))
"""


@pytest.fixture(scope="module")
def four_devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, list, list]:
    """A directory; losses of 50 updates on one and on four devices, of 20 with the width cut."""
    root = tmp_path_factory.mktemp("devices")
    (root / "config.json").write_text(SMALL.to_json())
    trainer = build_trainer(SMALL)
    collect = jax.jit(lambda state: trainer.collect(state)[0])
    train_round = jax.jit(trainer.round)
    state, losses = collect(collect(jax.jit(trainer.init)())), []
    write_state(RunDirectory(root / "saved"), 2, fetch_to_host(state))
    for _ in range(5):
        state, metrics = train_round(state)
        losses.append([float(metrics["critic/loss"]), float(metrics["actor/loss"])])
    generator = np.random.default_rng(0)
    np.savez(
        root / "envs.npz",
        **{name: generator.normal(size=(8, size)).astype(np.float32) for name, size in SIZES},
        mask=np.arange(8) % 3 == 0,
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FOUR_DEVICES), str(root)],
        env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root, losses, *map(json.loads, done.stdout.splitlines())


def test_four_devices_match_one_device(four_devices) -> None:
    _, one, four, width_sharded = four_devices
    np.testing.assert_allclose(four, one, rtol=1e-4)
    np.testing.assert_allclose(width_sharded, one[:2], rtol=1e-4)
    assert len({tuple(round_losses) for round_losses in one}) == 5


def test_checkpoint_moves_between_device_counts_bit_identically(
    four_devices, assert_trees_equal
) -> None:
    root, trainer = four_devices[0], build_trainer(SMALL)
    states = [restore_state(RunDirectory(root / name), 2, trainer) for name in SAVED]
    assert_trees_equal(*states)


def test_native_environments_on_four_devices_match_one_device(four_devices) -> None:
    root = four_devices[0]
    arrays = np.load(root / "envs.npz")
    physics = NativePhysics(make_task("reacher").world, 8, threads=1)
    envs = jax.jit(physics.init)(arrays["qpos"], arrays["qvel"])
    stepped = jax.jit(physics.step)(envs, arrays["control"])
    envs = jax.jit(physics.reset)(stepped, arrays["mask"], arrays["qpos"], arrays["qvel"])
    assert not np.array_equal(envs.qpos, stepped.qpos)
    shared = np.load(root / "stepped.npz").values()
    for one, four in zip(jax.tree.leaves(envs), shared, strict=True):
        np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("num_envs", 10, "8 or 12"), ("batch_size", 18, "16 or 20"), ("eval_envs", 3, "4")],
)
def test_devices_must_divide_environments_and_batch(field, value, nearest) -> None:
    config = SMALL.having(**{field: value})
    words = rf"{field} = {value} is not allowed: .*number of devices \(4.*{nearest}"
    with pytest.raises(UserError, match=words):
        TrainSchedule.derive(config, 100, devices=4)


def test_sharded_width_needs_enough_devices() -> None:
    with pytest.raises(UserError, match=r"model_devices = 2 is not allowed: it must divide the 1"):
        make_mesh(1, model_devices=2)


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(UserError, match=r"devices = 99 is not allowed: this program sees"):
        make_mesh(99)
