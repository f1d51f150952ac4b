"""Checkpoints of runs that were written with Orbax, until November 2026: read, never written.

A folder holds a flat dictionary from leaf path to array, in which empty arrays are left out.
"""

import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np

from kilolayer.errors import UserError
from kilolayer.runtime.files import first_line

MISSING = "it was written with Orbax, which is not installed: `pip install 'kilolayer[old-runs]'`."
# Former and present names of the last parts of leaf paths.
RENAMED = {"age": "episode_step"}


def read_orbax(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of one part of a checkpoint, by the present paths of their leaves.

    Raises UserError if the extra is missing or the folder cannot be read.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as place:
        warnings.simplefilter("ignore")
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise UserError(f"cannot read the checkpoint {folder}: {MISSING}") from error
        # Orbax reads some characters of a path as patterns, so it gets a link without them.
        link = Path(place) / "checkpoint"
        link.symlink_to(folder.parent.absolute(), target_is_directory=True)
        # Only this process reads, without waiting for others.
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
        )
        try:
            with ocp.StandardCheckpointer(multiprocessing_options=alone) as reader:
                stored = reader.metadata(link / folder.name).item_metadata
                like = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in stored.items()}
                arrays = reader.restore(link / folder.name, like)
        except Exception as error:
            raise UserError(f"cannot read the checkpoint {folder}: {first_line(error)}.") from error
    return {_present_name(name): array for name, array in arrays.items()}


def _present_name(name: str) -> str:
    """The present path of a leaf that is stored as `name`."""
    path, dot, last = name.rpartition(".")
    return path + dot + RENAMED.get(last, last)
