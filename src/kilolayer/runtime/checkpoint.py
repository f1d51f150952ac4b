"""Checkpoints: safetensors files with checksums, written atomically.

    checkpoints/000000000042/agent.safetensors   parameters, optimiser, temperature
                            loop.safetensors     environments, replay buffer, PRNG key; only in the
                                                 newest two
                            agent.sha256.json, loop.sha256.json
    checkpoints/.damaged-000000000042  a damaged checkpoint, until its round is written again

`remove_old` deletes older checkpoints.

Each file holds the leaves of a pytree by their paths, so no code is needed to read it. Older runs
have the folders agent/ and loop/ instead: see `orbax_checkpoint`.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import safe_open

from kilolayer.errors import UserError
from kilolayer.runtime.files import cannot_write, replace_atomically
from kilolayer.runtime.tensors import named_leaves, read_tensors, sha256_of, write_tensors

AGENT, LOOP = "agent", "loop"
DAMAGED = ".damaged-"
# Bytes that a verification reads at once, because a replay buffer does not fit into memory twice.
PIECE = 2**24


def save(root: Path, step: int, agent: Any, loop: Any = None) -> int:
    """Write the checkpoint of round `step`; returns its size in bytes.

    loop: None for a seed whose loop is saved elsewhere, together with other seeds. Raises UserError
    that names the last good checkpoint if it cannot be written; that checkpoint stays.
    """
    writing, target = root / f".writing-{step}", _directory(root, step)
    try:
        # A killed writer may have left a whole replay buffer at a round that is not saved again.
        for left in root.glob(".writing-*"):
            shutil.rmtree(left, ignore_errors=True)
        writing.mkdir(parents=True)
        for part, tree in ((AGENT, agent), (LOOP, loop)):
            if tree is None:
                continue
            file = _tensors(writing, part)
            write_tensors(file, tree)
            sums = json.dumps({file.name: sha256_of(file)}, indent=1)
            _listing(writing, part).write_text(sums, encoding="utf-8")
            _verify_tensors(file, tree)
        size = sum(file.stat().st_size for file in writing.rglob("*") if file.is_file())
        shutil.rmtree(target, ignore_errors=True)
        replace_atomically(writing, target)
    except Exception as error:
        shutil.rmtree(writing, ignore_errors=True)
        last = latest(root)
        kept = "there is none"
        if last is not None:
            kept = f"round {last} is the last good checkpoint, from which `--resume` goes on"
        what = f"cannot write the checkpoint of round {step} in {root}"
        raise cannot_write(what, writing, error, f"Nothing was lost: {kept}. ") from error
    shutil.rmtree(_directory(root, step, DAMAGED), ignore_errors=True)
    older = [each for each in steps(root) if each < step]
    # The previous checkpoint keeps its loop, in case the newest is damaged on the disk.
    for old in (_directory(root, each) for each in older[:-1]):
        _listing(old, LOOP).unlink(missing_ok=True)
        _tensors(old, LOOP).unlink(missing_ok=True)
        shutil.rmtree(old / LOOP, ignore_errors=True)  # of an older format
    return size


def remove_old(root: Path, keep: int, best: int | None) -> None:
    """Delete all checkpoints except the newest `keep` and that of round `best`.

    Call it after `save`, which verifies the newest.
    """
    for old in steps(root)[:-keep]:
        if old != best:
            shutil.rmtree(_directory(root, old), ignore_errors=True)


def steps(root: Path) -> list[int]:
    """Rounds with a checkpoint, ascending."""
    return sorted(int(path.name) for path in root.glob("*") if path.name.isdecimal())


def latest(root: Path) -> int | None:
    """The newest round with a checkpoint, or None."""
    found = steps(root)
    return found[-1] if found else None


def newest_intact(root: Path) -> tuple[int | None, list[str]]:
    """The round of the newest intact checkpoint, or None, and the faults of newer checkpoints."""
    problems = []
    for step in reversed(steps(root)):
        damage = (_find_damage(_directory(root, step), part) for part in (AGENT, LOOP))
        problem = next(filter(None, damage), None)
        if problem is None:
            return step, problems
        problems.append(problem)
    return None, problems


def set_aside(root: Path, after: int) -> None:
    """Rename the damaged checkpoints after round `after`, so that they are ignored but not lost."""
    for step in steps(root):
        if step > after:
            aside = _directory(root, step, DAMAGED)
            shutil.rmtree(aside, ignore_errors=True)
            _directory(root, step).rename(aside)


def _directory(root: Path, step: int, mark: str = "") -> Path:
    return root / f"{mark}{step:012d}"


def _tensors(directory: Path, part: str) -> Path:
    return directory / f"{part}.safetensors"


def _listing(directory: Path, part: str) -> Path:
    return directory / f"{part}.sha256.json"


def restore(root: Path, step: int, part: str, like: Any) -> Any:
    """Read one part of a checkpoint into the structure of `like` (arrays or their shapes).

    Raises UserError if the files do not match their checksums or the structure.
    """
    directory = _directory(root, step)
    stored, expected = _read(directory, part), named_leaves(like)
    for name, leaf in expected.items():
        if leaf.size == 0:  # Orbax stores no empty arrays
            stored.setdefault(name, np.zeros(leaf.shape, leaf.dtype))
    for name in sorted({*stored, *expected}):
        found, needed = _describe(stored.get(name)), _describe(expected.get(name))
        if found != needed:
            raise UserError(
                f"checkpoint {directory / part} does not fit its config.json: {name} is stored as "
                f"{found} where the config asks for {needed}."
            )
    return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in expected])


def _describe(array: Any) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"


def fingerprint(root: Path, step: int, part: str) -> str:
    """The checksum of one part of a checkpoint, over all its files."""
    return sha256_of(_listing(_directory(root, step), part))


def stored_arrays(root: Path, step: int, part: str) -> dict[str, np.ndarray] | None:
    """All arrays of a part by leaf path, for any structure; None if the part was deleted.

    Raises UserError if the files do not match their checksums.
    """
    directory = _directory(root, step)
    return _read(directory, part) if _listing(directory, part).is_file() else None


def _read(directory: Path, part: str) -> dict[str, np.ndarray]:
    problem = _find_damage(directory, part)
    if problem is not None:
        remedy = "start a new run"
        if steps(directory.parent)[:1] not in ([], [int(directory.name)]):
            remedy = f"move {directory} away, to use the checkpoint before it"
        raise UserError(f"{problem} Restore it from a copy, or {remedy}.")
    if (directory / part).is_dir():
        from kilolayer.runtime.orbax_checkpoint import read_orbax

        return read_orbax(directory / part)
    return read_tensors(_tensors(directory, part))


def _verify_tensors(file: Path, tree: Any) -> None:
    """Read back a written file; raises UserError unless it is bit-identical to the tree."""
    for name, leaf in named_leaves(tree).items():
        array = np.asarray(leaf)
        if any(_bits(stored) != _bits(rows) for stored, rows in _pieces(file, name, array)):
            raise UserError(f"{name} in {file} is not what was written")


def _pieces(file: Path, name: str, array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of equal rows of a stored array and of the array in memory."""
    if array.nbytes <= PIECE:
        with safe_open(file, framework="np") as stored:
            yield stored.get_tensor(name), array
        return
    rows = max(1, PIECE * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        end = min(start + rows, len(array))
        with safe_open(file, framework="np") as stored:  # closing it releases its memory
            rows_on_disk = stored.get_slice(name)[start:end]
        yield rows_on_disk, array[start:end]


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype, array.shape, array.tobytes()


def _find_damage(directory: Path, part: str) -> str | None:
    """A sentence about the damage of a part of a checkpoint, or None if it is intact."""
    listing = _listing(directory, part)
    if not listing.is_file():
        return f"checkpoint {directory} has no whole part {part!r}; it cannot be read."
    try:
        sums = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        sums = None
    if not isinstance(sums, dict) or not sums:
        return f"checkpoint file {listing} is damaged: it is no list of checksums."
    found = (_tensors(directory, part), *(directory / part).rglob("*"))
    stored = {str(path.relative_to(directory)) for path in found if path.is_file()}
    for name in sorted({*sums, *stored}):
        if name not in sums:
            return f"checkpoint file {listing} is damaged: it does not name {name}."
        if name not in stored or sha256_of(directory / name) != sums[name]:
            return (
                f"checkpoint file {directory / name} is damaged: its checksum differs from "
                f"{listing.name}."
            )
    return None
