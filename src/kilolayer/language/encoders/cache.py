"""Cache of features on disk, keyed by content, so that no input is encoded twice."""

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kilolayer.errors import UserError
from kilolayer.language.base import Encoder, Features, check_pictures, check_sentences
from kilolayer.runtime.tensors import fingerprint

CHUNK = 64
"""Rows encoded between two writes. A killed process loses at most this many."""


class CachedEncoder:
    """An Encoder that caches the features of `encoder` in `directory`.

    Each sentence or picture has a file, named by the SHA-256 of the encoder's fingerprint and the
    content. A checksum detects damaged files, and their features are computed again. Files are
    replaced atomically, so that several processes can share a directory. It may be deleted at any
    time. Raises UserError if the directory cannot be written.
    """

    def __init__(self, encoder: Encoder, directory: str | Path):
        self._encoder, self._directory = encoder, Path(directory).expanduser()
        self.name = encoder.name
        self.encodes_text, self.encodes_images = encoder.encodes_text, encoder.encodes_images

    def fingerprint(self) -> str:
        return self._encoder.fingerprint()

    def text(self, sentences: Sequence[str]) -> Features:
        if not self.encodes_text:
            return self._encoder.text(sentences)
        sentences = check_sentences(sentences)
        keys = [self._key(b"text", sentence.encode()) for sentence in sentences]

        def encode(rows: list[int]) -> list[Features]:
            entries = _rows(self._encoder.text([sentences[row] for row in rows]))
            # The padding of a sentence depends on the other sentences of its batch.
            return [
                Features(pooled, tokens if tokens is None or mask is None else tokens[mask])
                for pooled, tokens, mask in entries
            ]

        return self._look_up(keys, encode)

    def image(self, pictures: np.ndarray) -> Features:
        if not self.encodes_images:
            return self._encoder.image(pictures)
        pictures = check_pictures(pictures)
        shape = str(pictures.shape[1:]).encode()
        keys = [self._key(b"image", shape, picture.tobytes()) for picture in pictures]
        return self._look_up(keys, lambda rows: _rows(self._encoder.image(pictures[rows])))

    @cached_property
    def _encoder_hash(self) -> bytes:
        # Computed once: a frozen encoder does not change, and its parameters may be gigabytes.
        return self._encoder.fingerprint().encode()

    def _key(self, *content: bytes) -> str:
        return hashlib.sha256(b"\0".join([self._encoder_hash, *content])).hexdigest()

    def _look_up(self, keys: list[str], encode: Callable[[list[int]], list[Features]]) -> Features:
        """The features of all keys; `encode` computes those of the rows that are not cached."""
        found = {key: entry for key in set(keys) if (entry := self._read(key)) is not None}
        row_of = {key: row for row, key in enumerate(keys) if key not in found}
        missing = list(row_of)
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            entries = encode([row_of[key] for key in chunk])
            for key, entry in zip(chunk, entries, strict=True):
                found[key] = entry
                self._write(key, entry)
        return _join([found[key] for key in keys])

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        """Read a cached entry; None if it is missing or damaged."""
        try:
            with safe_open(self._path(key), "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                checksum = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError):
            return None
        if checksum != fingerprint(arrays, key):
            return None
        return Features(**arrays)

    def _write(self, key: str, entry: Features) -> None:
        path = self._path(key)
        arrays = {
            name: np.ascontiguousarray(array)
            for name, array in entry._asdict().items()
            if array is not None
        }
        # A unique name, because another process may write the same entry at the same time.
        writing = path.with_name(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(arrays, writing, {"sha256": fingerprint(arrays, key)})
            os.replace(writing, path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                writing.unlink(missing_ok=True)
            raise UserError(
                f"cannot write features to {self._directory} ({error}): free some space or choose "
                "another directory."
            ) from error


def _rows(features: Features) -> list[Features]:
    """Split features into single rows."""
    pooled, *rest = features
    return [
        Features(pooled[row], *(None if array is None else array[row] for array in rest))
        for row in range(len(pooled))
    ]


def _join(entries: list[Features]) -> Features:
    """Join single rows. Shorter rows are padded with zeros, which the mask excludes."""
    pooled = np.stack([entry.pooled for entry in entries])
    parts = [entry.tokens for entry in entries if entry.tokens is not None]
    if not parts:
        return Features(pooled)
    longest = max(map(len, parts))
    tokens = np.zeros((len(parts), longest, parts[0].shape[1]), np.float32)
    mask = np.zeros((len(parts), longest), bool)
    for row, (part, entry) in enumerate(zip(parts, entries, strict=True)):
        tokens[row, : len(part)] = part
        mask[row, : len(part)] = True if entry.mask is None else entry.mask
    return Features(pooled, tokens, None if mask.all() else mask)
