"""Recorded trajectories in a file of OGBench's layout (arXiv 2410.20092).

An `.npz` with `observations`, `actions`, `qpos` and `qvel`, float32 `[steps, ...]`, and
`terminals [steps]`, 1 at the last step of each trajectory. Trajectories follow one another. A row
holds a state and the action taken in it. The state after a trajectory's last action is not stored,
so the last action has no outcome.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kilolayer.errors import UserError, bad_field
from kilolayer.runtime.files import replacing

KEYS = ("observations", "actions", "terminals", "qpos", "qvel")
# Actions lie in [-1, 1] up to this rounding error.
ACTION_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Dataset:
    """A file's arrays: terminals are booleans `[steps]`, all others float32 `[steps, ...]`.

    fingerprint: the file's path, bytes and SHA-256, for the run's manifest. achieved_goals, goals:
    the achieved and the commanded goal of each step, if the file has them. Otherwise the task
    computes the achieved goals from qpos and qvel and draws the commanded goals.
    """

    observations: np.ndarray
    actions: np.ndarray
    terminals: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    fingerprint: dict[str, Any]
    achieved_goals: np.ndarray | None = None
    goals: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return len(self.terminals)

    @cached_property
    def episode_step(self) -> np.ndarray:
        """Steps since the start of each step's trajectory, int32 `[steps]`."""
        begins = np.r_[True, self.terminals[:-1]]
        rows = np.arange(self.steps, dtype=np.int32)
        return rows - np.maximum.accumulate(np.where(begins, rows, 0))

    @property
    def longest(self) -> int:
        """Steps of the longest trajectory."""
        return int(self.episode_step.max()) + 1

    @property
    def trajectories(self) -> int:
        return int((self.episode_step == 0).sum())


def read_dataset(path: Path) -> Dataset:
    """Read and check a file, without pickle.

    Raises UserError, naming the file, if it is missing or damaged, lacks an array, or holds an
    array that does not fit the layout.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # it might never end
        raise bad_field("dataset", str(path), "it is a device or a pipe, give a file")
    try:
        # Opened here, since np.load leaves a damaged archive open.
        with path.open("rb") as file:
            fingerprint = {
                "path": str(path),
                "bytes": os.fstat(file.fileno()).st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
            file.seek(0)
            arrays = _read_arrays(file)
    except FileNotFoundError:
        raise bad_field(
            "dataset", str(path), "there is no such file; `kilolayer collect` makes one"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read the dataset {path}: {error.strerror}.") from error
    except MemoryError as error:
        allowed = "its arrays are larger than the memory that is free: save fewer steps in a file"
        raise bad_field("dataset", str(path), allowed) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise bad_field("dataset", str(path), _file_kind(path)) from error
    if (problem := _layout_error(arrays)) is not None:
        raise bad_field("dataset", str(path), problem)
    terminals = arrays.pop("terminals") > 0
    return Dataset(terminals=terminals, fingerprint=fingerprint, **arrays)


# First bytes of files that are mistaken for datasets, and what to do with each.
MAGIC_BYTES = {
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file with `git lfs pull`",
    b"\x89HDF": "it is an HDF5 file: save its arrays with numpy.savez_compressed",
    b"\x93NUMPY": "it holds one array: save all of them with numpy.savez_compressed",
    b"\x80": "it is a pickle, which is never opened: save its arrays with numpy.savez_compressed",
    b"PK": "it is a damaged .npz file, or one that holds Python objects: save plain arrays of "
    "numbers with numpy.savez_compressed",
    b"\x1f\x8b": "it is compressed with gzip: unpack it first",
}


def _file_kind(path: Path) -> str:
    """What a file is that is not an .npz of plain arrays, for an error message."""
    with path.open("rb") as file:
        begins = file.read(40)
    known = (advice for mark, advice in MAGIC_BYTES.items() if begins.startswith(mark))
    return next(known, "it is no .npz file, as numpy.savez_compressed writes it")


def write_dataset(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file, complete or not at all; raises UserError if it cannot be written."""
    with replacing(path, f".{path.name}.writing.npz") as writing:
        np.savez_compressed(writing, allow_pickle=False, **{name: arrays[name] for name in KEYS})


def _read_arrays(file: Any) -> dict[str, np.ndarray]:
    """The arrays of the layout that the file has; numbers become float32."""
    stored = np.load(file, allow_pickle=False)
    if not isinstance(stored, np.lib.npyio.NpzFile):
        raise ValueError("it holds one array alone")
    with stored:
        arrays = {name: stored[name] for name in KEYS if name in stored}
    return {
        name: array.astype(np.float32, copy=False) if array.dtype.kind in "fiub" else array
        for name, array in arrays.items()
    }


def _layout_error(arrays: dict[str, np.ndarray]) -> str | None:
    """How the arrays differ from the layout, or None."""
    missing = [name for name in KEYS if name not in arrays]
    if missing:
        return f"it has no {missing[0]!r}; OGBench's layout has {', '.join(KEYS)}"
    for name, array in arrays.items():
        axes = 1 if name == "terminals" else 2
        if array.dtype != np.float32 or array.ndim != axes:
            form = "[steps]" if axes == 1 else "[steps, numbers]"
            return f"{name} is {array.dtype}{list(array.shape)} where numbers {form} are expected"
    if len(arrays["terminals"]) == 0:
        return "it holds no steps; `kilolayer collect` records some"
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        return f"its arrays differ in length: {listed}"
    for name, array in arrays.items():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
        if len(rows):
            return f"{name} is not finite at step {rows[0]}"
    if not np.isin(arrays["terminals"], (0, 1)).all():
        return "terminals must be 0 or 1"
    if not arrays["terminals"].any():
        return "terminals has no 1, so the ends of its trajectories are unknown"
    largest = float(np.abs(arrays["actions"]).max(initial=0))
    if largest > 1 + ACTION_ROUNDING:
        return (
            f"its actions reach {largest:.9g} where they must lie in [-1, 1]: divide them by "
            "their largest, or clip them with numpy.clip"
        )
    return None
