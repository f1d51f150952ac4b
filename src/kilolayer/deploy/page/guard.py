"""A viser server that answers only its own page.

viser checks neither Host nor Origin. It accepts messages of 50 MB from any number of clients, tries
another port if one is in use, and opens a public tunnel for any client that asks. Therefore every
request and every WebSocket passes `Guard` first.
"""

import contextlib
import hmac
import io
import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import viser
from websockets.asyncio import server as websockets
from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response

CLIENTS = 8  # pages that may be open at once
CONNECTIONS = 64  # of all kinds, including those that have not sent their request yet
MAX_MESSAGE_BYTES = 65536  # from a page
# Host names that a browser uses on this machine or through a tunnel to it.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Messages of viser's page that are removed: a public tunnel and file uploads.
REMOVED_MESSAGES = ("ShareUrlRequest", "ShareUrlDisconnect", "FileTransferStartUpload")

_starting = threading.Lock()


class Guard:
    """Decides which requests are answered.

    hosts: allowed host names, in any case. With a token, numeric addresses are allowed too. token:
    required first part of every path, or empty.
    """

    def __init__(self, hosts: frozenset[str], token: str):
        # A browser writes the name of a host in small letters.
        self._hosts, self._token = frozenset(host.lower() for host in hosts), token

    def refusal(self, connection: Any, request: Request) -> tuple[HTTPStatus, str] | None:
        """Status and message for a refused request; None if it is allowed."""
        try:
            host, origin = request.headers["Host"], request.headers.get("Origin")
        except (KeyError, MultipleValuesError):
            return HTTPStatus.BAD_REQUEST, "a request states one host and at most one origin."
        # Refuse host names that another site points here (DNS rebinding), and other sites' pages.
        if not self._is_own(host) or origin not in (None, f"http://{host}"):
            return HTTPStatus.FORBIDDEN, "only the page of kilolayer serve is answered here."
        if self._token and not self._has_token(request.path):
            return HTTPStatus.FORBIDDEN, "the address lacks the token that kilolayer serve printed."
        open_pages = len(connection.server.connections)
        if open_pages >= CLIENTS or len(connection.server.handlers) > CONNECTIONS:
            sentence = f"{CLIENTS} pages are open already: close one of them."
            return HTTPStatus.SERVICE_UNAVAILABLE, sentence
        return None

    def bare_path(self, path: str) -> str:
        """The path without the token."""
        return path.removeprefix(f"/{self._token}") if self._token else path

    def _is_own(self, host: str) -> bool:
        try:
            address = urlsplit(f"//{host}")
            name, _ = address.hostname or "", address.port
        except ValueError:
            return False
        return name in self._hosts or bool(self._token and _is_address(name))

    def _has_token(self, path: str) -> bool:
        first = path.partition("?")[0].split("/")[1:2]
        return hmac.compare_digest("".join(first).encode(), self._token.encode())


def _is_address(name: str) -> bool:
    """Whether a name is a numeric address, which no other site can redirect to this machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def policy(host: str) -> str:
    """The Content-Security-Policy: no content from other hosts, and no framing by other pages."""
    return (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob: data:; "
        "worker-src blob: data:; style-src 'unsafe-inline'; img-src blob: data:; font-src data:; "
        f"connect-src ws://{host} blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def guarded_server(listening: socket.socket, guard: Guard, label: str) -> viser.ViserServer:
    """A guarded viser server on a listening socket.

    Raises RuntimeError if viser bypassed the guard, which another version might do.
    """
    built = []
    serve = websockets.serve

    def guarded_serve(handler: Any, host: Any, port: Any, **options: Any) -> websockets.serve:
        answer = options["process_request"]

        def process(connection: Any, request: Request) -> Response | None:
            refusal = guard.refusal(connection, request)
            if refusal is not None:
                response = connection.respond(refusal[0], refusal[1] + "\n")
            else:
                request.path = guard.bare_path(request.path)
                response = answer(connection, request)
            if response is not None:
                _harden(response.headers, "" if refusal else request.headers["Host"])
            return response

        options |= {"process_request": process, "max_size": MAX_MESSAGE_BYTES, "logger": _silent()}
        built.append(serve(handler, sock=listening, **options))
        return built[-1]

    # viser has no options for this. It calls `serve` before its constructor returns.
    with _starting, _serving_by(guarded_serve), quiet():
        server = viser.ViserServer(host=listening.getsockname()[0], label=label, verbose=False)
    if not built:
        server.stop()
        raise RuntimeError(f"viser {viser.__version__} was started without the guard.")
    for message in list(server._websock_server._incoming_handlers):
        if message.__name__ in REMOVED_MESSAGES:
            server._websock_server.unregister_handler(message)
    return server


@contextlib.contextmanager
def _serving_by(serve: Any) -> Iterator[None]:
    original = websockets.serve
    setattr(websockets, "serve", serve)  # noqa: B010
    try:
        yield
    finally:
        setattr(websockets, "serve", original)  # noqa: B010


def _harden(headers: Headers, host: str) -> None:
    headers["Content-Security-Policy"] = policy(host)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cache-Control"] = "no-store"


def _silent() -> logging.Logger:
    """A logger that prints nothing, so that invalid requests do not fill the terminal."""
    logger = logging.getLogger("kilolayer.page")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide viser's messages about its address and its end; the command prints its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
