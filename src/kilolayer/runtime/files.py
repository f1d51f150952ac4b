"""Files: written so that nothing is lost, read as UTF-8, and one sentence for what goes wrong."""

import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kilolayer.errors import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FREE_SPACE = "Free some space there, then go on; a run goes on with `kilolayer train --resume`."
ANOTHER_FOLDER = "or choose another folder."
WAYS_OUT = {
    **dict.fromkeys(NO_SPACE, FREE_SPACE),
    errno.EROFS: f"Mount that file system for writing, {ANOTHER_FOLDER}",
    errno.EACCES: f"Ask for the right to write there, {ANOTHER_FOLDER}",
    errno.EPERM: f"Ask for the right to write there, {ANOTHER_FOLDER}",
    errno.ENOENT: f"Make its folder first, {ANOTHER_FOLDER}",
    errno.ENOTDIR: "A part of that path is a file: choose another folder.",
    errno.EISDIR: "It is a folder: choose a name for the file.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`).",
    errno.EMFILE: "Raise the limit on open files (`ulimit -n`).",
    errno.ENOMEM: "Free some memory, or make the run smaller.",
    errno.EIO: f"The disk reports a fault: check it, {ANOTHER_FOLDER}",
}


def write_atomically(target: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, never half of it."""
    with replacing(target, f".{target.name}.writing") as temporary:
        # A file's name that the locale cannot read is written as the bytes that it has.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def replacing(target: Path, name: str) -> Iterator[Path]:
    """A file called `name` beside the target, to write inside; it then replaces the target.

    Where that fails it is removed: on a full disk half a file would be in the way.
    """
    temporary = target.with_name(name)
    with guard_disk(target):
        try:
            yield temporary
            put_in_place(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def put_in_place(written: Path, target: Path) -> None:
    """Rename a finished file or folder to `target`, once all of it is on the disk.

    After a loss of power the target is the old or the new one, and whole.
    """
    for inside in written.rglob("*") if written.is_dir() else ():
        _sync(inside)
    _sync(written)
    os.replace(written, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


class guard_disk:  # noqa: N801, used as a statement: `with guard_disk(path):`
    """Turn a failure to write into one sentence that names the file and the way out."""

    def __init__(self, target: Path, kept: str = ""):
        self.target, self.kept = target, kept

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise cannot_write(f"cannot write {self.target}", self.target, error, self.kept)


def cannot_write(what: str, target: Path, error: Exception, kept: str = "") -> UserError:
    """The error for a failed write. what: the beginning of its sentence; kept: a sentence on what
    is still there, with a space at its end."""
    number = _number_of(error)
    free = f" ({_free_mebibytes(target)} MiB free)" if number in NO_SPACE else ""
    reason = os.strerror(number) if number else first_line(error)
    way_out = WAYS_OUT.get(number or 0, "Check that place and its disk, then go on.")
    found = UserError(f"{what}: {reason}{free}. {kept}{way_out}")
    found.__cause__ = error
    return found


def first_line(error: BaseException) -> str:
    """What an error says, in one line without a full stop; its kind if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def _number_of(error: BaseException) -> int | None:
    """The system's number of an error; libraries that are not Python's only quote its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return next((number for number in WAYS_OUT if os.strerror(number) in str(error)), None)


def _free_mebibytes(target: Path) -> int:
    """Of the file system that the file is, or would be, on."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    return shutil.disk_usage(folder).free // 2**20


def read_json(path: Path, way_out: str) -> Any:
    """What a JSON file holds; UserError with the way out if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: {way_out}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): {way_out}.") from error


def shell(path: str | Path) -> str:
    """A path as it is written in a command that a user can copy."""
    return shlex.quote(str(path))
