"""Files: atomic writes, locks, UTF-8 reads, and one sentence for each failure."""

import errno
import fcntl
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kilolayer.errors import UserError, bad_field

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FREE_SPACE = "Free some space there, then go on; a run goes on with `kilolayer train --resume`."
ANOTHER_FOLDER = "or choose another folder."
REMEDIES = {
    **dict.fromkeys(NO_SPACE, FREE_SPACE),
    errno.EROFS: f"Mount that file system for writing, {ANOTHER_FOLDER}",
    errno.EACCES: f"Ask for the right to write there, {ANOTHER_FOLDER}",
    errno.EPERM: f"Ask for the right to write there, {ANOTHER_FOLDER}",
    errno.ENOENT: f"Make its folder first, {ANOTHER_FOLDER}",
    errno.ENOTDIR: "A part of that path is a file: choose another folder.",
    errno.EISDIR: "It is a folder: move it away, or choose another name for the file.",
    errno.EEXIST: "Something else has that name: move it away, or choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`).",
    errno.EMFILE: "Raise the limit on open files (`ulimit -n`).",
    errno.ENOMEM: "Free some memory, or make the run smaller.",
    errno.EIO: f"The disk reports a fault: check it, {ANOTHER_FOLDER}",
}


def write_atomically(target: Path, text: str) -> None:
    """Write a file atomically: a reader sees the complete old or the complete new text."""
    with replacing(target, f".{target.name}.writing") as temporary:
        # A file name that the locale cannot decode keeps its bytes.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def replacing(target: Path, name: str) -> Iterator[Path]:
    """In the context, write to a temporary file `name` beside the target; it then replaces the
    target.

    If writing fails, the temporary file is removed.
    """
    temporary = target.with_name(name)
    with guard_disk(target):
        try:
            yield temporary
            replace_atomically(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def replace_atomically(written: Path, target: Path) -> None:
    """Rename a finished file or folder to `target`, after syncing it to the disk.

    After a power failure, the target is complete: the old or the new one.
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


@contextmanager
def guard_disk(target: Path) -> Iterator[None]:
    """In the context, raise a failed write as one sentence that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise cannot_write(f"cannot write {target}", target, error) from error


@contextmanager
def file_lock(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock in the context; the system releases it when the process ends.

    busy: raise UserError with this text if another process holds the lock; None: wait. Raises
    UserError if the file cannot be written.
    """
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy or "") from None
        yield


def require_file(out: Path, suffix: str | None = None, field: str = "out") -> None:
    """Raises UserError unless a file with this suffix can be written there; its folder must exist.

    Call it before long work, whose result would be lost.
    """
    if suffix is not None and out.suffix != suffix:
        near = out.with_suffix(suffix).name if out.name else None
        raise bad_field(field, str(out), f"a file that ends in {suffix}", near)
    if not out.parent.is_dir():
        raise bad_field(field, str(out), "there is no such directory, make it first")
    if out.is_dir():
        raise bad_field(field, str(out), "it is a directory")
    require_writable(out)


def require_unused(out: Path) -> None:
    """Raises UserError unless a new folder can be made there. Call it before long work."""
    if out.exists():
        raise bad_field("out", str(out), "it exists already, choose another")
    require_writable(out)


def unused(path: Path) -> Path:
    """The path, with the first number appended that makes it new: run, run-2, run-3."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}-{count}")
    return candidate


def require_writable(target: Path) -> None:
    """Raises UserError unless something can be written there: a file into the closest folder that
    exists, which the system removes again."""
    with guard_disk(target), tempfile.TemporaryFile(dir=_closest_folder(target)):
        pass


def cannot_write(what: str, target: Path, error: Exception, kept: str = "") -> UserError:
    """The error for a failed write. what: the start of its sentence. kept: a sentence about files
    that were not lost, with a space at its end."""
    number = _number_of(error)
    free = ""
    if number in NO_SPACE:
        free = f" ({shutil.disk_usage(_closest_folder(target)).free // 2**20} MiB free)"
    reason = os.strerror(number) if number else first_line(error)
    remedy = REMEDIES.get(number or 0, "Check that place and its disk, then go on.")
    return UserError(f"{what}: {reason}{free}. {kept}{remedy}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without a full stop; its type if the message is
    empty."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def _number_of(error: BaseException) -> int | None:
    """The system's error number; errors of compiled libraries contain only its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return next((number for number in REMEDIES if os.strerror(number) in str(error)), None)


def _closest_folder(target: Path) -> Path:
    """The closest folder above the target that exists."""
    return next(folder for folder in target.absolute().parents if folder.exists())


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file; raises UserError with the remedy if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: {remedy}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): {remedy}.") from error


def shell_quoted(path: str | Path) -> str:
    """A path, quoted for a command that a user can copy."""
    return shlex.quote(str(path))
