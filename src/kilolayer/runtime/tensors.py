"""A directory of arrays with a card: what is kept of a network on its own.

`NAME.safetensors` holds the arrays, `NAME.json` the card that says what they are, with their
checksum. Written whole or not at all.
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

from kilolayer.runtime.files import cannot_write, put_in_place, write_atomically
from kilolayer.types import UserError

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class TensorDirectory:
    """The one format for directories of this kind.

    kind: what they hold, in words and in the names of the files, as `policy`. version: of the card;
    a directory of another version is refused.
    """

    kind: str
    version: int

    @property
    def card_name(self) -> str:
        return f"{self.kind}.json"

    @property
    def tensors_name(self) -> str:
        return f"{self.kind}.safetensors"

    def is_one(self, path: str | Path) -> bool:
        """Whether such a directory is there."""
        return (Path(path) / self.card_name).is_file()

    def write(self, path: Path, tree: Any, card: dict[str, Any]) -> None:
        """Write the arrays of a pytree and what the card says, JSON values.

        Raises UserError if something is there already or it cannot be written.
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
            put_in_place(writing, path)
        # The writer of tensors has an error of its own for a full disk.
        except (OSError, SafetensorError, UserError) as error:
            shutil.rmtree(writing, ignore_errors=True)
            raise cannot_write(f"cannot write the {self.kind} {path}", path, error) from error

    def card(self, path: Path) -> dict[str, Any]:
        """What the card says; raises UserError if there is none or the arrays are damaged."""
        try:
            card = json.loads((path / self.card_name).read_text(encoding="utf-8"))
            version, expected = card["version"], card["sha256"]
            found = sha256_of(path / self.tensors_name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.broken(path, error) from error
        if version != self.version:
            raise UserError(
                f"{path} was written by another version of this package (card {version}, this one "
                f"reads {self.version}): make it anew."
            )
        if found != expected:
            raise UserError(
                f"{path / self.tensors_name} is damaged: its checksum differs from "
                f"{self.card_name}."
            )
        return card

    def fill(self, like: Tree, path: Path) -> Tree:
        """The arrays in the shape of the pytree `like`, whose leaves may be shapes alone.

        Raises UserError unless names, shapes and types are the same.
        """
        try:
            arrays = read_tensors(path / self.tensors_name)
        except (OSError, ValueError) as error:
            raise self.broken(path, error) from error
        named = named_leaves(like)
        shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in named.items()}
        if shapes != {name: (array.shape, array.dtype) for name, array in arrays.items()}:
            raise UserError(
                f"{path / self.tensors_name} does not hold the arrays that {self.card_name} "
                "speaks of."
            )
        leaves = [jnp.asarray(arrays[name]) for name in named]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def broken(self, path: Path, error: Exception) -> UserError:
        """What to raise for a directory that is not whole."""
        return UserError(f"{path} is no whole {self.kind} directory: {error}.")


def write_tensors(file: Path, tree: Any) -> None:
    """Write the leaves of a pytree by their paths into one safetensors file."""
    save_file(
        {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(tree).items()}, file
    )
    # safetensors lets its owner alone read a file; this one is as readable as its folder.
    with suppress(OSError):  # some file systems know no such rights
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


def fingerprint(tree: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of all leaves, in hex: any bit changes it."""
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.asarray(leaf, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
