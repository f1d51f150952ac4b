"""Checkpoints: safetensors files, written whole or not at all, with checksums.

    checkpoints/000000000042/agent.safetensors   parameters, optimiser, temperature
                            loop.safetensors     environments, replay buffer, PRNG key; the newest
                                                 two keep it
                            agent.sha256.json, loop.sha256.json
    checkpoints/.damaged-000000000042  one that `newest_whole` passed over, until it is written anew

Of the older ones `thin` keeps a few.

Each file holds the leaves of a pytree by their paths, so no code is needed to read it. Runs of
before have folders agent/ and loop/ in their place: see `orbax_checkpoint`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from kilolayer.runtime.files import cannot_write, put_in_place
from kilolayer.runtime.tensors import named_leaves, read_tensors, sha256_of, write_tensors
from kilolayer.types import UserError

AGENT, LOOP = "agent", "loop"
# Bytes of an array that are read back at once: a replay buffer would not fit into memory twice.
PIECE = 2**24


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
            write_tensors(_tensors(writing, part), tree)
            _write_checksums(writing, part)
            _verify_tensors(_tensors(writing, part), tree)
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
        _listing(_place(root, each), LOOP).unlink(missing_ok=True)
        _tensors(_place(root, each), LOOP).unlink(missing_ok=True)
        shutil.rmtree(_place(root, each) / LOOP, ignore_errors=True)  # where an old run goes on
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


def _tensors(directory: Path, part: str) -> Path:
    return directory / f"{part}.safetensors"


def _listing(directory: Path, part: str) -> Path:
    return directory / f"{part}.sha256.json"


def restore(root: Path, step: int, part: str, like: Any) -> Any:
    """Read one part of a checkpoint into the structure of `like` (arrays or their shapes).

    Raises UserError if the files do not match their checksums or the structure.
    """
    directory = _place(root, step)
    stored, expected = _read(directory, part), named_leaves(like)
    for name, leaf in expected.items():
        if leaf.size == 0:  # Orbax kept no empty arrays
            stored.setdefault(name, np.zeros(leaf.shape, leaf.dtype))
    for name in sorted({*stored, *expected}):
        kept, wanted = _described(stored.get(name)), _described(expected.get(name))
        if kept != wanted:
            raise UserError(
                f"checkpoint {directory / part} does not fit its config.json: {name} is stored as "
                f"{kept} where the config asks for {wanted}."
            )
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in expected])


def _described(array: Any) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"


def fingerprint(root: Path, step: int, part: str) -> str:
    """The checksum of one part of a checkpoint, over all its files."""
    return sha256_of(_listing(_place(root, step), part))


def stored_arrays(root: Path, step: int, part: str) -> dict[str, np.ndarray] | None:
    """All arrays of a part by leaf path, whatever its structure; None if it was not kept.

    Raises UserError if the files do not match their checksums.
    """
    directory = _place(root, step)
    return _read(directory, part) if _listing(directory, part).is_file() else None


def _read(directory: Path, part: str) -> dict[str, np.ndarray]:
    problem = _damage(directory, part)
    if problem is not None:
        raise UserError(f"{problem} Restore it from a copy, or start a new run.")
    if (directory / part).is_dir():
        from kilolayer.runtime.orbax_checkpoint import read_orbax

        return read_orbax(directory / part)
    return read_tensors(_tensors(directory, part))


def _verify_tensors(file: Path, tree: Any) -> None:
    """Read back what was written; raises UserError if it is not the same bit for bit."""
    for name, leaf in named_leaves(tree).items():
        array = np.asarray(leaf)
        if any(_bits(back) != _bits(own) for back, own in _pieces(file, name, array)):
            raise UserError(f"{name} in {file} is not what was written")


def _pieces(file: Path, name: str, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A stored array beside the one in memory, a few rows after the other."""
    if array.nbytes <= PIECE:
        with safe_open(file, framework="np") as stored:
            yield stored.get_tensor(name), array
        return
    rows = max(1, PIECE * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        end = min(start + rows, len(array))
        with safe_open(file, framework="np") as stored:  # closed, it leaves no part of it in memory
            back = stored.get_slice(name)[start:end]
        yield back, array[start:end]


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def _write_checksums(directory: Path, part: str) -> None:
    sums = {name: sha256_of(directory / name) for name in _files(directory, part)}
    _listing(directory, part).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def _files(directory: Path, part: str) -> list[str]:
    """The files of a part, by their paths inside the checkpoint."""
    found = (_tensors(directory, part), *(directory / part).rglob("*"))
    return sorted(str(path.relative_to(directory)) for path in found if path.is_file())


def _damage(directory: Path, part: str) -> str | None:
    """A sentence on what is wrong with a part of a checkpoint, or None if it is whole."""
    listing = _listing(directory, part)
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
