"""`kilolayer serve`: a page on which a person sends policies to goals, made by viser."""

import errno
import secrets
import socket
import threading
from types import TracebackType
from typing import Self

from kilolayer.deploy.page.guard import LOOPBACK, Guard, guarded_server, quiet
from kilolayer.deploy.page.session import Session
from kilolayer.deploy.page.view import View
from kilolayer.types import UserError, bad_field

LOCAL = "127.0.0.1"


class PageServer:
    """Shows one session.

    port: 0 takes any that is free. host: an address of this machine other than the loopback one
    makes the page reachable from elsewhere, under an address that holds a random token. Raises
    UserError if the port is in use or may not be taken.
    """

    def __init__(self, session: Session, port: int, host: str = LOCAL):
        self.session, self._host = session, host
        self._token = "" if host in LOOPBACK else secrets.token_urlsafe(16)
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.view: View | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/{self._token}".removesuffix("/")

    def start(self) -> None:
        """Answer, and step the session while a page is open."""
        hosts = LOOPBACK if not self._token else LOOPBACK | {self._host, socket.gethostname()}
        label = f"Kilolayer: {self.session.task.name}"
        server = guarded_server(self._socket, Guard(hosts, self._token), label)
        self.view = View(server, self.session)
        self.session.start()

    def run(self) -> None:
        """As `start`, until interrupted."""
        self.start()
        threading.Event().wait()

    def stop(self) -> None:
        """End the session and the page."""
        # A thread that the interpreter's end meets inside the physics would be a crash.
        self.session.stop()
        if self.view is not None:
            with quiet():
                self.view.server.stop()
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()
    except OverflowError:
        taken.close()
        raise bad_field("port", port, "a number from 0 to 65535", 8765) from None
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            way_out = f"--port {_free_port(host, family, port)} is free"
            raise UserError(f"port {port} is in use by another program: {way_out}.") from None
        raise UserError(
            f"port {port} of {host} cannot be taken ({error.strerror}): try --port 8765, and an "
            "address of this machine for --host."
        ) from None
    return taken


def _free_port(host: str, family: socket.AddressFamily, taken: int) -> int:
    """The next port above `taken` that nobody listens on, or any."""
    for port in [*range(taken + 1, min(taken + 50, 65536)), 0]:
        with socket.socket(family) as attempt:
            try:
                attempt.bind((host, port))
            except OSError:
                continue
            return attempt.getsockname()[1]
    return 0
