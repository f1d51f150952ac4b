"""Writing files so that nothing is lost, with one sentence for what goes wrong."""

import os
import shutil
from pathlib import Path

from kilolayer.types import UserError


def write_atomically(target: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, never half of it."""
    with guard_disk(target):
        temporary = target.with_name(f".{target.name}.writing")
        temporary.write_text(text)
        os.replace(temporary, target)


class guard_disk:  # noqa: N801, used as a statement: `with guard_disk(path):`
    """Turn a failure to write into one sentence that names the file and the way out."""

    def __init__(self, target: Path, kept: str = ""):
        self.target, self.kept = target, kept

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            free = shutil.disk_usage(self.target.parent).free // 2**20
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot write {self.target}: {reason} ({free} MiB free). {self.kept}"
                "Free some space, then continue with `kilolayer train --resume`."
            ) from error
