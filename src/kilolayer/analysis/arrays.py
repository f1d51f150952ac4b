"""Read the arrays that a run stored on disk, and check the file."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kilolayer.types import UserError


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` file, without pickle.

    Raises UserError if the file is missing, damaged, or lacks one of the names.
    """
    if not path.is_file():
        raise UserError(f"the run has no {path.name} yet: the first evaluation writes it.")
    try:
        # Opened here, since np.load leaves a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except KeyError as error:
        raise UserError(f"{path} lacks an array: {error.args[0]}.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged ({error}): continue or repeat the run to write it again."
        ) from error
