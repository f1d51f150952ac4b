"""One process at a time: a lock on a file that ends with the process, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilolayer.runtime.files import guard_disk
from kilolayer.types import UserError


@contextmanager
def locked(path: Path, otherwise: str | None = None) -> Iterator[None]:
    """Hold the lock while inside; wait for it, or raise UserError saying `otherwise`.

    Raises UserError if the file cannot be written.
    """
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if otherwise else 0))
        except BlockingIOError:
            raise UserError(otherwise or "") from None
        yield
