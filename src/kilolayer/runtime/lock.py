"""A lock file for one process at a time; the system releases it when the process ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilolayer.runtime.files import guard_disk
from kilolayer.types import UserError


@contextmanager
def file_lock(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold the lock in the context.

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
