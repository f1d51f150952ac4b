"""Checkpoints: Orbax arrays, written whole or not at all, with checksums.

    checkpoints/000000000042/agent/    parameters, optimiser, temperature
                            loop/      environments, replay buffer, PRNG key; the newest two keep it
                            agent.sha256.json, loop.sha256.json
    checkpoints/.damaged-000000000042  one that `newest_whole` passed over, until it is written anew

Of the older ones `thin` keeps a few.

A pytree is stored as a flat dictionary from leaf path to array, so no code is needed to read it.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kilolayer.runtime.files import cannot_write, first_line, put_in_place
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
    writing, target = root / f".writing-{step}", _place(root, step)
    try:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        for part, tree in ((AGENT, agent), (LOOP, loop)):
            if tree is None:
                continue
            _write_arrays(writing / part, tree)
            _write_checksums(writing, part)
            _verify_arrays(writing / part, tree)
        size = sum(file.stat().st_size for file in writing.rglob("*") if file.is_file())
        shutil.rmtree(target, ignore_errors=True)
        put_in_place(writing, target)
    except Exception as error:
        shutil.rmtree(writing, ignore_errors=True)
        last = latest(root)
        kept = "there is none"
        if last is not None:
            kept = f"round {last} is the last good checkpoint, from which `--resume` goes on"
        what = f"cannot write the checkpoint of round {step} in {root}"
        raise cannot_write(what, writing, error, f"Nothing was lost: {kept}. ") from error
    shutil.rmtree(_aside(root, step), ignore_errors=True)
    older = [each for each in steps(root) if each < step]
    # The one before stays whole, in case the newest is damaged on the disk.
    for each in older[:-1]:
        (_place(root, each) / f"{LOOP}.sha256.json").unlink(missing_ok=True)
        shutil.rmtree(_place(root, each) / LOOP, ignore_errors=True)
    return size


def thin(root: Path, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep` and that of round `best`.

    Call it after `save`, which has read back the newest.
    """
    for old in steps(root)[:-keep]:
        if old != best:
            shutil.rmtree(_place(root, old), ignore_errors=True)


def steps(root: Path) -> list[int]:
    """Rounds with a checkpoint, ascending."""
    return sorted(int(path.name) for path in root.glob("*") if path.name.isdecimal())


def latest(root: Path) -> int | None:
    """The newest round with a checkpoint, or None."""
    found = steps(root)
    return found[-1] if found else None


def newest_whole(root: Path) -> tuple[int | None, list[str]]:
    """The newest round whose checkpoint a run can go on from, and what is wrong with newer ones.

    None if there is no such checkpoint.
    """
    problems = []
    for step in reversed(steps(root)):
        found = [_damage(_place(root, step), part) for part in (AGENT, LOOP)]
        problem = next(filter(None, found), None)
        if problem is None:
            return step, problems
        problems.append(problem)
    return None, problems


def set_aside(root: Path, after: int) -> None:
    """Let the checkpoints after round `after` no longer count; what is damaged stays for repair."""
    for step in steps(root):
        if step > after:
            shutil.rmtree(_aside(root, step), ignore_errors=True)
            _place(root, step).rename(_aside(root, step))


def _place(root: Path, step: int) -> Path:
    return root / f"{step:012d}"


def _aside(root: Path, step: int) -> Path:
    return root / f".damaged-{step:012d}"


def restore(root: Path, step: int, part: str, like: Any) -> Any:
    """Read one part of a checkpoint into the structure of `like` (arrays or their shapes).

    Raises UserError if the files do not match their checksums or the structure.
    """
    directory = _place(root, step)
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
    return sha256_of(_place(root, step) / f"{part}.sha256.json")


def stored_arrays(root: Path, step: int, part: str) -> dict[str, np.ndarray] | None:
    """All arrays of a part by leaf path, whatever its structure; None if it was not kept.

    Raises UserError if the files do not match their checksums.
    """
    directory = _place(root, step)
    if not (directory / f"{part}.sha256.json").is_file():
        return None
    _verify_checksums(directory, part)
    with _served(directory / part) as files, _alone() as checkpointer:
        stored = checkpointer.metadata(files).item_metadata
    shapes = {
        _present_name(name): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for name, leaf in stored.items()
    }
    return _read_arrays(directory / part, shapes)


def _read_arrays(directory: Path, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    """The stored arrays; raises UserError if one is missing, left over or of another kind."""
    try:
        with _served(directory) as files, _alone() as checkpointer:
            stored = checkpointer.metadata(files).item_metadata
            old = {_present_name(name): name for name in stored}
            template = {
                old.get(name, name): np.zeros(leaf.shape, leaf.dtype)
                for name, leaf in expected.items()
            }
            arrays = checkpointer.restore(files, template)
    except Exception as error:
        raise UserError(
            f"checkpoint {directory} does not fit its config.json: {first_line(error)}."
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
    return ocp.StandardCheckpointer(multiprocessing_options=_this_process())


def _reader() -> ocp.Checkpointer:
    """The same, for single arrays of a checkpoint."""
    alone = _this_process()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _this_process() -> ocp.options.MultiprocessingOptions:
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )


@contextmanager
def _served(directory: Path) -> Iterator[Path]:
    """The same directory by a path that Orbax can open: it takes some characters for patterns."""
    path = directory.absolute()
    if not re.search(r"[\[\]*?\\]", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "checkpoint"
        link.symlink_to(path.parent, target_is_directory=True)
        yield link / path.name


def _leaf_names(tree: Any) -> list[str]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def _flatten(tree: Any) -> dict[str, Any]:
    """Leaves by name; empty ones are left out, for they hold nothing."""
    names, leaves = _leaf_names(tree), jax.tree.leaves(tree)
    return {name: leaf for name, leaf in zip(names, leaves, strict=True) if np.prod(leaf.shape) > 0}


def _write_arrays(directory: Path, tree: Any) -> None:
    arrays = {name: np.asarray(leaf) for name, leaf in _flatten(tree).items()}
    with _served(directory) as files, _alone() as checkpointer:
        checkpointer.save(files, arrays)


def _verify_arrays(directory: Path, tree: Any) -> None:
    """Read back what was written; raises UserError if it is not the same bit for bit.

    One array after the other: a replay buffer would not fit into memory twice.
    """
    with _served(directory) as files, _reader() as reader:
        for name, array in _flatten(tree).items():
            like = {name: np.zeros((), array.dtype)}
            as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray)}
            wanted = ocp.args.PyTreeRestore(like, as_numpy, partial_restore=True)
            back = reader.restore(files, args=wanted)[name]
            if not np.array_equal(_bytes(back), _bytes(array)):
                raise UserError(f"{name} in {directory} is not what was written")


def _bytes(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _write_checksums(directory: Path, part: str) -> None:
    sums = {name: sha256_of(directory / name) for name in _files(directory, part)}
    (directory / f"{part}.sha256.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")


def _files(directory: Path, part: str) -> list[str]:
    """The files of a part, by their paths inside the checkpoint."""
    inside = (directory / part).rglob("*")
    return sorted(str(path.relative_to(directory)) for path in inside if path.is_file())


def _verify_checksums(directory: Path, part: str) -> None:
    problem = _damage(directory, part)
    if problem is not None:
        raise UserError(f"{problem} Restore it from a copy, or start a new run.")


def _damage(directory: Path, part: str) -> str | None:
    """A sentence on what is wrong with a part of a checkpoint, or None if it is whole."""
    listing = directory / f"{part}.sha256.json"
    if not listing.is_file():
        return f"checkpoint {directory} has no whole part {part!r}; it cannot be read."
    try:
        sums = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        sums = None
    if not isinstance(sums, dict) or not sums:
        return f"checkpoint file {listing} is damaged: it is no list of checksums."
    stored = _files(directory, part)
    for name in sorted({*sums, *stored}):
        if name not in sums:
            return f"checkpoint file {listing} is damaged: it does not name {name}."
        if name not in stored or sha256_of(directory / name) != sums[name]:
            return (
                f"checkpoint file {directory / name} is damaged: its checksum differs from "
                f"{listing.name}."
            )
    return None
