"""A lock against a second loop on the same robot, also from another process."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kilolayer_robot.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows
    fcntl = None


@contextlib.contextmanager
def robot_lock(name: str) -> Iterator[None]:
    """Within the context, no other loop of this machine holds the lock of this name.

    The system releases the lock when the process ends in any way. Raises UserError if another loop
    holds the lock or it cannot be made.
    """
    if fcntl is None:
        raise UserError("this system has no file locks, so a second loop could not be detected.")
    safe = re.sub(r"[^\w.-]", "_", name)
    path = Path(tempfile.gettempdir()) / f"kilolayer-robot-{safe}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"cannot make the lock {path}: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UserError(
                f"another loop drives the robot {name} (process {owner}): stop it first, or give "
                "this robot another name with --lock."
            ) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
