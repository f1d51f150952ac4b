"""Tests for kilolayer.runtime.tensors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.runtime.tensors import TensorDirectory, fingerprint

FORMAT = TensorDirectory("thing", version=3)
TREE = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.int32(4), jnp.zeros((0, 2)))}


def test_tensor_directory_round_trips_bit_identically(tmp_path, assert_trees_equal) -> None:
    path = tmp_path / "one"
    FORMAT.write(path, TREE, {"words": ["x"]})
    assert FORMAT.exists(path)
    assert FORMAT.card(path)["words"] == ["x"]
    shapes = jax.eval_shape(lambda: TREE)
    assert_trees_equal(FORMAT.fill(shapes, path), TREE)


def test_existing_files_are_never_overwritten(tmp_path) -> None:
    FORMAT.write(tmp_path / "one", TREE, {})
    with pytest.raises(UserError, match="exists already"):
        FORMAT.write(tmp_path / "one", TREE, {})


def test_damage_other_versions_and_shapes_are_refused(tmp_path) -> None:
    path = tmp_path / "one"
    FORMAT.write(path, TREE, {})
    with pytest.raises(UserError, match="does not hold the arrays"):
        FORMAT.fill({"a": TREE["a"]}, path)
    card = json.loads((path / "thing.json").read_text())
    (path / "thing.json").write_text(json.dumps(card | {"version": 2}))
    with pytest.raises(UserError, match="another version"):
        FORMAT.card(path)
    (path / "thing.json").write_text(json.dumps(card))
    content = bytearray((path / "thing.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "thing.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        FORMAT.card(path)
    (path / "thing.json").unlink()
    with pytest.raises(UserError, match="no whole thing directory"):
        FORMAT.card(path)


def test_fingerprint_depends_on_every_bit_and_name() -> None:
    other = {
        "a": TREE["a"].at[0, 0].set(np.nextafter(np.float32(0), np.float32(1))),
        "b": TREE["b"],
    }
    renamed = {"c": TREE["a"], "b": TREE["b"]}
    assert fingerprint(TREE) == fingerprint(jax.tree.map(jnp.copy, TREE))
    assert len({fingerprint(tree) for tree in (TREE, other, renamed)}) == 3
