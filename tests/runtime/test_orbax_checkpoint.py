"""Runs whose checkpoints were written with Orbax are read, go on, and need an extra."""

import re
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.runtime import checkpoint
from old_checkpoints import write_orbax

AGENT = {
    "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32),
    "count": jnp.asarray(7, jnp.int32),
    "key": jnp.asarray([0, 2**32 - 1], jnp.uint32),
    "empty": jnp.zeros((5, 0), jnp.uint32),
    "special": jnp.asarray([np.nan, -np.inf, -0.0, 1e-45], jnp.float32),
    "flags": jnp.asarray([True, False]),
    "coarse": jnp.asarray([1.0, 3.0], jnp.bfloat16),
}
LOOP = {"buffer": jnp.arange(6.0).reshape(2, 3), "unrolls": jnp.asarray(3, jnp.int32)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two old checkpoints, in a folder whose name Orbax takes for a pattern."""
    root = tmp_path / "sweep[lr=0.1]" / "checkpoints"
    for step in (1, 2):
        for part, tree in ((checkpoint.AGENT, AGENT), (checkpoint.LOOP, LOOP)):
            write_orbax(root / f"{step:012d}", tree, part)
    return root


def test_checkpoint_round_trips_bit_identically(root, assert_trees_equal) -> None:
    assert checkpoint.newest_intact(root) == (2, [])
    assert_trees_equal(checkpoint.restore(root, 2, checkpoint.AGENT, AGENT), AGENT)
    stored = checkpoint.stored_arrays(root, 2, checkpoint.LOOP)
    assert stored is not None
    assert_trees_equal(stored, LOOP)
    with pytest.raises(UserError, match=r"buffer is stored as nothing where .* float32\[2, 3\]"):
        checkpoint.restore(root, 2, checkpoint.AGENT, LOOP)


def test_renamed_leaf_is_read(tmp_path) -> None:
    """The steps since a reset were called `age`."""
    steps = jnp.arange(6).reshape(2, 3)
    write_orbax(tmp_path / f"{1:012d}", ({"age": steps}, jnp.zeros(2)), checkpoint.LOOP)
    like = ({"episode_step": steps}, jnp.ones(2))
    back = checkpoint.restore(tmp_path, 1, checkpoint.LOOP, like)
    np.testing.assert_array_equal(back[0]["episode_step"], steps)


def test_every_damaged_file_is_found(root) -> None:
    for file in [path for path in (root / f"{2:012d}").rglob("*") if path.is_file()]:
        whole = file.read_bytes()
        for damaged in (b"", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:] if whole else b"x"):
            if damaged != whole:
                file.write_bytes(damaged)
                assert checkpoint.newest_intact(root)[0] == 1, file
        file.unlink()
        assert checkpoint.newest_intact(root)[0] == 1, file
        file.write_bytes(whole)
    (root / f"{2:012d}" / "agent" / "new").write_text("1")
    assert checkpoint.newest_intact(root)[0] == 1


def test_resumed_run_writes_safetensors_and_removes_old_loops(root, assert_trees_equal):
    checkpoint.save(root, 3, AGENT, LOOP)
    assert not (root / f"{1:012d}" / "loop").exists()
    assert (root / f"{2:012d}" / "loop").is_dir()
    for step in (1, 2, 3):
        assert_trees_equal(checkpoint.restore(root, step, checkpoint.AGENT, AGENT), AGENT)
    shutil.rmtree(root / f"{3:012d}")
    assert checkpoint.newest_intact(root) == (2, [])


def test_missing_orbax_is_named(root, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    sentence = re.escape(
        f"cannot read the checkpoint {root / f'{2:012d}' / 'agent'}: it was written with Orbax, "
        "which is not installed: `pip install 'kilolayer[old-runs]'`."
    )
    with pytest.raises(UserError, match=sentence):
        checkpoint.restore(root, 2, checkpoint.AGENT, AGENT)
