"""`kilolayer serve`: a web page, made with viser, on which a user sets goals for policies."""

import errno
import secrets
import socket
import threading
from typing import Self

from kilolayer.deploy.page.guard import LOOPBACK, Guard, guarded_server, quiet
from kilolayer.deploy.page.session import Session
from kilolayer.deploy.page.view import View
from kilolayer.errors import UserError, bad_field

LOCAL = "127.0.0.1"


class PageServer:
    """Serves one session.

    port: 0 takes any free port. host: with an address other than loopback, other machines can reach
    the page under a URL that contains a random token. Raises UserError if the port is in use or
    cannot be bound.
    """

    def __init__(self, session: Session, port: int, host: str = LOCAL):
        self.session, self._host = session, host
        self._token = "" if host in LOOPBACK else secrets.token_urlsafe(16)
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.view: View | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/{self._token}".removesuffix("/")

    def start(self) -> None:
        """Start the server, and step the session while a page is open."""
        hosts = LOOPBACK if not self._token else LOOPBACK | {self._host, socket.gethostname()}
        label = f"Kilolayer: {self.session.task.name}"
        server = guarded_server(self._socket, Guard(hosts, self._token), label)
        self.view = View(server, self.session)
        self.session.start()

    def run(self) -> None:
        """Start, then wait until interrupted."""
        self.start()
        threading.Event().wait()

    def stop(self) -> None:
        """End the session and the page."""
        # The thread must stop first: the interpreter would crash if it ended inside the physics.
        self.session.stop()
        if self.view is not None:
            with quiet():
                self.view.server.stop()
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OverflowError:
        listening.close()
        raise bad_field("port", port, "a number from 0 to 65535", 8765) from None
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            remedy = f"--port {_free_port(host, family, port)} is free"
            raise UserError(f"port {port} is in use by another program: {remedy}.") from None
        raise UserError(
            f"port {port} of {host} cannot be opened ({error.strerror}): try --port 8765, and an "
            "address of this machine for --host."
        ) from None
    return listening


def _free_port(host: str, family: socket.AddressFamily, used: int) -> int:
    """The next free port above `used`, or else any free port."""
    for port in [*range(used + 1, min(used + 50, 65536)), 0]:
        with socket.socket(family) as attempt:
            try:
                attempt.bind((host, port))
            except OSError:
                continue
            return attempt.getsockname()[1]
    return 0
