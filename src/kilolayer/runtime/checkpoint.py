"""Checkpoints: Orbax arrays, written whole or not at all, with checksums.

    checkpoints/000000000042/agent/    parameters, optimiser, temperature
                            loop/      environments, replay buffer, PRNG key; only the newest keeps
                            it agent.sha256.json, loop.sha256.json

Of the older ones `thin` keeps a few.

A pytree is stored as a flat dictionary from leaf path to array, so no code is needed to read it.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kilolayer.runtime.tensors import sha256_of
from kilolayer.types import UserError

AGENT, LOOP = "agent", "loop"
# Last parts of leaf paths that checkpoints of before called otherwise.
RENAMED = {"age": "episode_step"}


def save(root: Path, step: int, agent: Any, loop: Any = None) -> int:
    """Write the checkpoint of round `step`; returns its size in bytes.

    loop: None for an agent whose loop is kept elsewhere, with those of other seeds.
    Raises UserError if it cannot be written, naming the last good checkpoint, which stays.
    """
    writing = root / f".writing-{step}"
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for part, tree in ((AGENT, agent), (LOOP, loop)):
            if tree is None:
                continue
            _write_arrays(writing / part, tree)
            _write_checksums(writing, part)
        # Older agents go when this one is there. The loop, often larger, is not held twice for it.
        _verify_arrays(writing / AGENT, agent)
        size = sum(file.stat().st_size for file in writing.rglob("*") if file.is_file())
        target = root / f"{step:012d}"
        shutil.rmtree(target, ignore_errors=True)
        os.replace(writing, target)
    except Exception as error:
        shutil.rmtree(writing, ignore_errors=True)
        last = latest(root)
        kept = f"round {last} is the last good checkpoint" if last is not None else "there is none"
        free = shutil.disk_usage(root).free // 2**20
        raise UserError(
            f"cannot write the checkpoint of round {step} in {root} ({free} MiB free): "
            f"{_first_line(error)}. Nothing was lost: {kept}. "
            "Free some space, then continue with --resume."
        ) from error
    for older in steps(root):
        if older < step:
            (root / f"{older:012d}" / f"{LOOP}.sha256.json").unlink(missing_ok=True)
            shutil.rmtree(root / f"{older:012d}" / LOOP, ignore_errors=True)
    return size


def thin(root: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep` and that of round `best`.

    Call it after `save`, which has read back the newest agent.
    """
    for old in steps(root)[:-keep]:
        if old != best:
            shutil.rmtree(root / f"{old:012d}", ignore_errors=True)


def steps(root: Path) -> list[int]:
    """Rounds with a checkpoint, ascending."""
    return sorted(int(path.name) for path in root.glob("*") if path.name.isdecimal())


def latest(root: Path) -> int | None:
    """The newest round with a checkpoint, or None."""
    found = steps(root)
    return found[-1] if found else None


def restore(root: Path, step: int, part: str, like: Any) -> Any:
    """Read one part of a checkpoint into the structure of `like` (arrays or their shapes).

    Raises UserError if the files do not match their checksums or the structure.
    """
    directory = root / f"{step:012d}"
    _verify_checksums(directory, part)
    expected = _flatten(like)
    arrays = _read_arrays(directory / part, expected)
    leaves, structure = jax.tree.flatten(like)
    names = _leaf_names(like)
    filled = [
        arrays[name] if name in expected else np.zeros(leaf.shape, leaf.dtype)
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, filled)


def fingerprint(root: Path, step: int, part: str) -> str:
    """The checksum of one part of a checkpoint, over all its files."""
    return sha256_of(root / f"{step:012d}" / f"{part}.sha256.json")


def stored_arrays(root: Path, step: int, part: str) -> dict[str, np.ndarray] | None:
    """All arrays of a part by leaf path, whatever its structure; None if it was not kept.

    Raises UserError if the files do not match their checksums.
    """
    directory = root / f"{step:012d}"
    if not (directory / f"{part}.sha256.json").is_file():
        return None
    _verify_checksums(directory, part)
    with _alone() as checkpointer:
        stored = checkpointer.metadata((directory / part).absolute()).item_metadata
    shapes = {
        _present_name(name): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for name, leaf in stored.items()
    }
    return _read_arrays(directory / part, shapes)


def _read_arrays(directory: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    """The stored arrays; raises UserError if one is missing, left over or of another kind."""
    try:
        with _alone() as checkpointer:
            stored = checkpointer.metadata(directory.absolute()).item_metadata
            old = {_present_name(name): name for name in stored}
            template = {
                old.get(name, name): np.zeros(leaf.shape, leaf.dtype)
                for name, leaf in expected.items()
            }
            arrays = checkpointer.restore(directory.absolute(), template)
    except Exception as error:
        raise UserError(
            f"checkpoint {directory} does not fit its config.json: {_first_line(error)}."
        ) from error
    # Orbax keeps a stored shape that differs from the template's, and casts a differing dtype.
    for name, array in template.items():
        if (stored[name].shape, stored[name].dtype) != (array.shape, array.dtype):
            raise UserError(
                f"checkpoint {directory} does not fit its config.json: {name} is stored as "
                f"{stored[name].dtype}{list(stored[name].shape)} where the config asks for "
                f"{array.dtype}{list(array.shape)}."
            )
    return {_present_name(name): array for name, array in arrays.items()}


def _present_name(name: str) -> str:
    """What a leaf that is stored as `name` is called today."""
    path, dot, last = name.rpartition(".")
    return path + dot + RENAMED.get(last, last)


def _alone() -> ocp.StandardCheckpointer:
    """A checkpointer of this process: it waits for no other."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _first_line(error: Exception) -> str:
    """What an error says, in one line; its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _leaf_names(tree: Any) -> list[str]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def _flatten(tree: Any) -> dict[str, Any]:
    """Leaves by name; empty ones are left out, for they hold nothing."""
    names, leaves = _leaf_names(tree), jax.tree.leaves(tree)
    return {name: leaf for name, leaf in zip(names, leaves, strict=True) if np.prod(leaf.shape) > 0}


def _write_arrays(directory: Path, tree: Any) -> None:
    arrays = {name: np.asarray(leaf) for name, leaf in _flatten(tree).items()}
    with _alone() as checkpointer:
        checkpointer.save(directory.absolute(), arrays)


def _verify_arrays(directory: Path, tree: Any) -> None:
    """Read back what was written; raises UserError if it is not the same bit for bit."""
    expected = _flatten(tree)
    for name, array in _read_arrays(directory, expected).items():
        if not np.array_equal(_bytes(array), _bytes(expected[name])):
            raise UserError(f"{name} in {directory} is not what was written")


def _bytes(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _write_checksums(directory: Path, part: str) -> None:
    files = sorted(path for path in (directory / part).rglob("*") if path.is_file())
    sums = {str(path.relative_to(directory)): sha256_of(path) for path in files}
    (directory / f"{part}.sha256.json").write_text(json.dumps(sums, indent=1))


def _verify_checksums(directory: Path, part: str) -> None:
    listing = directory / f"{part}.sha256.json"
    if not listing.is_file():
        raise UserError(f"checkpoint {directory} has no whole part {part!r}; it cannot be read.")
    for name, expected in json.loads(listing.read_text()).items():
        path = directory / name
        if not path.is_file() or sha256_of(path) != expected:
            raise UserError(
                f"checkpoint file {path} is damaged: its checksum differs from {listing.name}. "
                "Restore the file from a copy, or start a new run."
            )
