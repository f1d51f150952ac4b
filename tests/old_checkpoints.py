"""Checkpoints as runs had them until November 2026, written with Orbax."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from kilolayer.runtime import checkpoint
from kilolayer.runtime.tensors import named_leaves, sha256_of


def write_orbax(directory: Path, tree: Any, part: str) -> None:
    """Write one part of a checkpoint into its directory, with its checksums."""
    arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(tree).items()}
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    # Orbax takes some characters of a path for patterns.
    with tempfile.TemporaryDirectory() as plain:
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as writer:
            kept = {name: array for name, array in arrays.items() if array.size}
            writer.save(Path(plain) / part, kept)
        shutil.copytree(Path(plain) / part, directory / part)
    files = [path for path in (directory / part).rglob("*") if path.is_file()]
    sums = {str(path.relative_to(directory)): sha256_of(path) for path in sorted(files)}
    (directory / f"{part}.sha256.json").write_text(json.dumps(sums, indent=1), encoding="utf-8")


def as_before(root: Path) -> None:
    """Turn all checkpoints of a run into those that Orbax would have written."""
    for step in checkpoint.steps(root):
        directory = root / f"{step:012d}"
        parts = {
            part: checkpoint.stored_arrays(root, step, part)
            for part in (checkpoint.AGENT, checkpoint.LOOP)
        }
        shutil.rmtree(directory)
        for part, arrays in parts.items():
            if arrays is not None:
                write_orbax(directory, arrays, part)
