"""`kilolayer serve`: a page on this machine alone, on which a person sends policies to goals.

GET  /            the page, with /page.js and /page.css
GET  /state       what is shown, as JSON
GET  /events      the same frame after frame, as server-sent events
GET  /map?goal=x,y    the critic's values for a goal
POST /goal        {"goal": [x, y], "restart": true}
POST /say         {"sentence": "go to the red marker", "restart": true}
POST /marks       others at other places
POST /reset
"""

import errno
import json
import math
import socket
import socketserver
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from kilolayer.deploy.page.session import Session
from kilolayer.types import UserError, bad_field

ADDRESS = "127.0.0.1"
# Names that a browser on this machine, or one at the far end of a tunnel, calls it by.
HOSTS = ("127.0.0.1", "localhost")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
# The page loads nothing from elsewhere and lies in no other page's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
LONGEST_BODY = 65536  # bytes; a sentence too long is told by whoever reads it
FRAME_INTERVAL = 1 / 30  # seconds


class PageServer(ThreadingHTTPServer):
    """Answers for one session on the loopback address.

    port: 0 takes any that is free. Raises UserError if it is in use or may not be taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int):
        self.session = session
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OverflowError:
            raise bad_field("port", port, "a number from 0 to 65535", 8765) from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                way_out = f"--port {_free_port(port)} is free"
                raise UserError(f"port {port} is in use by another program: {way_out}.") from None
            raise UserError(
                f"port {port} cannot be taken ({error.strerror}): try --port 8765."
            ) from None

    def server_bind(self) -> None:
        # HTTPServer's own would look up the address's name, which can take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}"

    def run(self) -> None:
        """Step the session and answer until interrupted; the session is over then."""
        self.session.start()
        try:
            self.serve_forever()
        finally:
            # A thread that the interpreter's end meets inside the physics would be a crash.
            self.session.stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser may go at any moment; all else is a fault of ours and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _free_port(taken: int) -> int:
    """The next port above `taken` that nobody listens on, or any."""
    for port in [*range(taken + 1, min(taken + 50, 65536)), 0]:
        with socket.socket() as attempt:
            try:
                attempt.bind((ADDRESS, port))
            except OSError:
                continue
            return attempt.getsockname()[1]
    return 0


class _RefusalError(Exception):
    """A request that is not answered, with its status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kilolayer", ""
    timeout = 30  # seconds that a connection may be silent

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def _guarded(self, answer: Callable[[], None]) -> None:
        try:
            self._require_own_page()
            answer()
        except _RefusalError as refusal:
            self.send_error(refusal.status, str(refusal))
        except UserError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _require_own_page(self) -> None:
        """Against names that another site points here, and against requests of other sites."""
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        origin = self.headers.get("Origin")
        if name not in HOSTS or origin not in (None, f"http://{host}"):
            raise _RefusalError(
                HTTPStatus.FORBIDDEN, f"only the page at {self.server.url} is answered here."
            )

    def _get(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError:
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "the address cannot be read.") from None
        if address.path in PAGE:
            name, kind = PAGE[address.path]
            content = files("kilolayer.deploy.page").joinpath(name).read_bytes()
            self._send(HTTPStatus.OK, content, f"{kind}; charset=utf-8")
        elif address.path == "/state":
            self._send_json(self.server.session.scene())
        elif address.path == "/events":
            self._send_events()
        elif address.path == "/map":
            goal = parse_qs(address.query).get("goal", [""])[0].split(",")
            self._send_json(self._map(_place(goal)))
        else:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "there is nothing at this address.")

    def _post(self) -> None:
        body = self._body()
        if self.path == "/goal":
            goal, restart = body.get("goal"), body.get("restart", True)
            if not isinstance(goal, list) or not isinstance(restart, bool):
                raise _RefusalError(
                    HTTPStatus.BAD_REQUEST,
                    'a goal is sent as {"goal": [x, y], "restart": true or false}.',
                )
            self._send_json(self.server.session.set_goal(_place(goal), restart))
        elif self.path == "/say":
            sentence, restart = body.get("sentence"), body.get("restart", True)
            if not isinstance(sentence, str) or not isinstance(restart, bool):
                raise _RefusalError(
                    HTTPStatus.BAD_REQUEST,
                    'a sentence is sent as {"sentence": "...", "restart": true or false}.',
                )
            self._send_json(self.server.session.say(sentence, restart))
        elif self.path == "/marks":
            self.server.session.rearrange()
            self._send_json({})
        elif self.path == "/reset":
            self.server.session.reset()
            self._send_json({})
        else:
            raise _RefusalError(HTTPStatus.NOT_FOUND, "there is nothing at this address.")

    def _body(self) -> dict[str, Any]:
        """The JSON object that was sent; none counts as an empty one."""
        self.close_connection = True  # what is not read must not be taken for the next request
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "the length of the request is not told.")
        length = length.lstrip("0") or "0"
        # By its digits first: Python refuses to read a number of thousands of them.
        if len(length) > len(str(LONGEST_BODY)) or int(length) > LONGEST_BODY:
            sentence = f"a request holds at most {LONGEST_BODY} bytes."
            raise _RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        try:
            body = json.loads(self.rfile.read(int(length)) or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise _RefusalError(HTTPStatus.BAD_REQUEST, "the request is not a JSON object.")
        self.close_connection = False
        return body

    def _map(self, place: list[float]) -> dict[str, Any]:
        values = self.server.session.value_map(place)
        grid = [
            [float(f"{value:.5g}") if math.isfinite(value) else None for value in column]
            for column in values.value
        ]
        scale = [float(f"{end:.5g}") for end in (np.nanmin(values.value), np.nanmax(values.value))]
        return {"goal": place, "values": grid, "scale": scale}

    def _send_events(self) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self._send_headers("text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        session = self.server.session
        with session.watching():
            for frame in session.frames():
                self.wfile.write(f"data: {frame}\n\n".encode() if frame else b": still here\n\n")
                time.sleep(FRAME_INTERVAL)

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self._send_headers(kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _send_headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Also what the standard library calls where it cannot read a request."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send_json({"error": message or f"{status.phrase}."}, status)

    def log_message(self, format: str, *args: Any) -> None:
        """A terminal full of requests tells nobody anything."""


def _place(numbers: list[Any]) -> list[float]:
    """Two finite numbers, given as numbers or as text."""
    try:
        place = [float(number) for number in numbers if not isinstance(number, bool)]
    except (TypeError, ValueError, OverflowError):
        place = []
    if len(place) != 2 or len(numbers) != 2 or not all(map(math.isfinite, place)):
        raise _RefusalError(HTTPStatus.BAD_REQUEST, "a goal is two finite numbers, x and y.")
    return place
