"""A directory with the arrays of a network and a card.

`NAME.safetensors` holds the arrays; `NAME.json`, the card, describes them and has their checksum.
The directory is written atomically.
"""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kilolayer.errors import UserError
from kilolayer.runtime.files import cannot_write, replace_atomically, write_atomically

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class TensorDirectory:
    """The format of directories of one kind.

    kind: used in messages and file names, such as `policy`. version: of the card; directories of
    another version are refused.
    """

    kind: str
    version: int

    @property
    def card_name(self) -> str:
        return f"{self.kind}.json"

    @property
    def tensors_name(self) -> str:
        return f"{self.kind}.safetensors"

    def exists(self, path: str | Path) -> bool:
        """Whether the path is such a directory."""
        return (Path(path) / self.card_name).is_file()

    def write(self, path: Path, tree: Any, card: dict[str, Any]) -> None:
        """Write the arrays of a pytree and the card, JSON values.

        Raises UserError if the path exists or cannot be written.
        """
        if path.exists():
            raise UserError(f"{path} exists already: choose another with --out.")
        writing = path.with_name(f".writing-{path.name}")
        try:
            shutil.rmtree(writing, ignore_errors=True)
            writing.mkdir(parents=True)
            write_tensors(writing / self.tensors_name, tree)
            sha256 = sha256_of(writing / self.tensors_name)
            whole = {"version": self.version, **card, "sha256": sha256}
            write_atomically(writing / self.card_name, json.dumps(whole, indent=2) + "\n")
            replace_atomically(writing, path)
        # safetensors raises its own error for a full disk.
        except (OSError, SafetensorError, UserError) as error:
            shutil.rmtree(writing, ignore_errors=True)
            raise cannot_write(f"cannot write the {self.kind} {path}", path, error) from error

    def card(self, path: Path) -> dict[str, Any]:
        """The card; raises UserError if there is none or the arrays are damaged."""
        try:
            card = json.loads((path / self.card_name).read_text(encoding="utf-8"))
            version, expected = card["version"], card["sha256"]
            found = sha256_of(path / self.tensors_name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged(path, error) from error
        if version != self.version:
            raise UserError(
                f"{path} was written by another version of this package (card {version}, this one "
                f"reads {self.version}): make it again."
            )
        if found != expected:
            raise UserError(
                f"{path / self.tensors_name} is damaged: its checksum differs from "
                f"{self.card_name}."
            )
        return card

    def fill(self, like: Tree, path: Path) -> Tree:
        """The arrays as a pytree with the structure of `like`, whose leaves may be shapes.

        Raises UserError unless names, shapes and dtypes are the same.
        """
        try:
            arrays = read_tensors(path / self.tensors_name)
        except (OSError, ValueError) as error:
            raise self.damaged(path, error) from error
        named = named_leaves(like)
        shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in named.items()}
        if shapes != {name: (array.shape, array.dtype) for name, array in arrays.items()}:
            raise UserError(
                f"{path / self.tensors_name} does not hold the arrays that {self.card_name} "
                "describes."
            )
        leaves = [jnp.asarray(arrays[name]) for name in named]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def damaged(self, path: Path, error: Exception) -> UserError:
        """The error for an incomplete directory."""
        return UserError(f"{path} is no whole {self.kind} directory: {error}.")


def write_tensors(file: Path, tree: Any) -> None:
    """Write the leaves of a pytree by their paths into one safetensors file."""
    save_file(
        {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(tree).items()}, file
    )
    # safetensors writes files that only their owner can read; this gives the folder's rights.
    with suppress(OSError):  # some file systems have no such rights
        file.chmod(file.parent.stat().st_mode & 0o666)


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name; raises ValueError if it is none."""
    try:
        return load_file(file, backend="pread")  # a mapped file would be in memory twice
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their paths, such as `stack.blocks.layers.0.dense.kernel`."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def fingerprint(tree: Any, start: str = "") -> str:
    """SHA-256 over a text and names, types, shapes and bytes of all leaves, in hex: any bit changes
    it."""
    digest = hashlib.sha256(start.encode())
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.asarray(leaf, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
