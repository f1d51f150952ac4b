"""The page answers requests of its own browser only."""

import http.client
import socket
import time
from contextlib import suppress
from types import SimpleNamespace

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kilolayer.deploy.page import guard as guard_module
from kilolayer.deploy.page.serve import PageServer
from kilolayer.deploy.page.session import Session
from served import (
    MAZE,
    STUDENT,
    ask,
    drain,
    page_socket,
    wait_until,
)


def test_page_answers_to_local_host_names(server):
    for name in ("localhost", "127.0.0.1", "[::1]"):
        for port in (server.port, 9000):  # the latter through a tunnel
            host = f"{name}:{port}"
            status, text = ask(server, Host=host, Origin=f"http://{host}")
            assert (status, "<!doctype html>" in text) == (200, True)
    with page_socket(server, origin=f"http://127.0.0.1:{server.port}") as page:
        assert len(page.recv(timeout=10)) > 16  # the scene


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "evil.example"}, 403, "only the page of kilolayer serve"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "only the page"),
        ({"Host": "192.168.0.7"}, 403, "only the page"),
        ({"Host": "localhost:80; script-src *"}, 403, "only the page"),
        ({"Host": "[broken"}, 403, "only the page"),
        ({"Host": ""}, 403, "only the page"),
        ({"Origin": "http://evil.example"}, 403, "only the page"),
        ({"Origin": "null"}, 403, "only the page"),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403, "only the page"),
    ],
)
def test_foreign_requests_are_refused_with_a_reason(server, headers, status, words, capfd):
    for upgrade in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
        found, text = ask(server, **headers, **upgrade)
        assert (found, words in text, text.count("\n")) == (status, True, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "length",
    ["1", "99999999", "00000000099999999", "9" * 5000, "-1", "1e9", "0x10", "1, 1", "\u0661"],
)
def test_request_bodies_are_refused(server, length):
    """The server does not read the body, since the page only requests files."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = (
            f"GET / HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: {length}\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = connection.recv(4096)
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert not answer.startswith(b"HTTP/1.1 200")


def test_foreign_websockets_are_refused(server):
    for origin in ("http://evil.example", "null", f"http://localhost:{server.port}"):
        with pytest.raises(InvalidStatus, match="403"), page_socket(server, origin=origin):
            pass
    evil = {"Host": f"evil.example:{server.port}"}
    with (
        pytest.raises(InvalidStatus, match=r"40[03]"),
        page_socket(server, additional_headers=evil),  # a second Host beside the true one
    ):
        pass


def test_invalid_requests_are_refused_silently(server, capfd):
    assert ask(server, "/nothing")[0] == 404
    assert ask(server, "/../../__init__.py")[0] == 404
    with pytest.raises((http.client.HTTPException, ConnectionError, AssertionError)):
        assert ask(server, "/", "POST")[0] == 200
    with page_socket(server) as page:
        page.send(b"\xff" * 100)
        with pytest.raises(ConnectionClosed):
            drain(page)
    assert capfd.readouterr().err == ""


def test_long_messages_and_many_pages_are_refused(server):
    with page_socket(server) as page:
        page.send(b"x" * (guard_module.MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            drain(page)
    wait_until(lambda: not server.view.server._websock_server._live_connections)
    pages = [page_socket(server) for _ in range(guard_module.CLIENTS)]
    with pytest.raises(InvalidStatus, match="503"), page_socket(server):
        pass
    for page in pages:
        page.close()


def test_public_tunnel_is_disabled(server, monkeypatch):
    """viser's own page may ask for a public address."""
    requests = []
    monkeypatch.setattr(
        type(server.view.server), "request_share_url", lambda *_, **__: requests.append(1)
    )
    with page_socket(server) as page:
        page.send(msgspec.msgpack.encode({"type": "ShareUrlRequest"}))
        # An answer to a later message shows that the first one was read.
        page.ping().wait(10)
        time.sleep(0.3)
    assert requests == []


def test_viser_bypassing_the_guard_is_stopped(session, monkeypatch):
    stopped = []
    unguarded = SimpleNamespace(stop=lambda: stopped.append(1))
    monkeypatch.setattr(guard_module.viser, "ViserServer", lambda **_: unguarded)
    with PageServer(session, 0) as server, pytest.raises(RuntimeError, match="without the guard"):
        server.start()
    assert stopped == [1]


def test_host_name_with_capital_letters_is_the_pages_own(monkeypatch):
    """The command prints such a name, and a browser sends it in small letters."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Lab-PC")
    with PageServer(Session(MAZE, [STUDENT]), 0, host="0.0.0.0") as server:
        server.start()
        assert server.url.startswith("http://Lab-PC:")
        path = f"/{server.url.rpartition('/')[2]}"
        assert ask(server, path, Host=f"lab-pc:{server.port}")[0] == 200


def test_other_host_requires_the_token():
    session = Session(MAZE, [STUDENT])
    with PageServer(session, 0, host="0.0.0.0") as server:
        server.start()
        token = server.url.rpartition("/")[2]
        assert len(token) >= 20
        for path in ("/", f"/{token[:-1]}", f"/x{token}", f"/{token}x/", "/%00", "/%ff"):
            found, text = ask(server, path)
            assert (found, "lacks the token" in text) == (403, True), path
        assert ask(server, f"/{token}")[0] == ask(server, f"/{token}/?x=1")[0] == 200
        # An address in numbers is this machine's own; a name may be pointed here by anybody.
        assert ask(server, f"/{token}", Host="192.168.0.7:80")[0] == 200
        assert ask(server, f"/{token}", Host="evil.example")[0] == 403
        with pytest.raises(InvalidStatus, match="403"), page_socket(server):
            pass
        with page_socket(server, f"/{token}") as page:
            assert page.recv(timeout=10)
    with PageServer(Session(MAZE, [STUDENT]), 0, host="0.0.0.0") as other:
        assert other.url.rpartition("/")[2] != token
