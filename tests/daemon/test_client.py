"""The caller's side of the bridge's socket, against servers that say anything or hang up."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import SECONDS
from tokenbridge.daemon.client import BridgeClient
from tokenbridge.errors import DaemonUnavailable, RemoteError, TokenbridgeError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answer(content: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


def request_on(connection: socket.socket) -> bytes:
    """The whole request: hanging up before its end would be another fault."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65536)
    length = re.search(rb"content-length: (\d+)", read.lower())
    while length is not None and len(read.partition(b"\r\n\r\n")[2]) < int(length[1]):
        read += connection.recv(65536)
    return read


class Server:
    """Gives each connection the next answer and hangs up."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.asked: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)
        self._thread.start()
        self.client = BridgeClient(path)

    def _serve(self, answers: tuple[bytes, ...]) -> None:
        for given in answers:
            connection, _ = self._listener.accept()
            with connection:
                self.asked.append(request_on(connection))
                connection.sendall(given)

    def close(self) -> None:
        self._thread.join(SECONDS)
        self._listener.close()


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    opened: list[Server] = []

    def start(*answers: bytes) -> Server:
        opened.append(Server(tmp_path / "bridge.sock", *answers))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


def test_answers_and_queries(serve: Serve) -> None:
    server = serve(answer(b'{"a": 1}'), answer(b"", "204 No Content"))
    assert server.client.get("/v1/card", reader="Reader 00 00", empty="") == {"a": 1}
    assert server.client.request("POST", "/v1/stop") is None
    assert server.asked[0].startswith(b"GET /v1/card?reader=Reader%2000%2000 HTTP/1.1")


def test_refusals(serve: Serve) -> None:
    error = {"code": "no-device", "message": "No card was found."}
    content = json.dumps({"error": error}).encode()
    server = serve(answer(content, "404 Not Found"), answer(content, "404 Not Found"))
    with pytest.raises(RemoteError) as caught:
        server.client.get("/v1/card")
    assert caught.value.remote_code == "no-device"
    with pytest.raises(RemoteError):
        server.client.stream("POST", "/v1/sign-in", {})


@pytest.mark.parametrize(
    "given",
    [
        answer(b"Not Found", "404 Not Found"),
        answer(b"Internal Server Error", "500 Internal Server Error"),
        answer(b"\xff", "200 OK"),
        answer(b'{"a": 1', "200 OK"),
        answer(b"[]", "404 Not Found"),
        answer(b'"x"', "404 Not Found"),
        answer(b'{"error": "x"}', "404 Not Found"),
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort",
    ],
)
def test_what_is_no_answer_of_a_bridge_is_a_typed_error(serve: Serve, given: bytes) -> None:
    server = serve(given)
    with pytest.raises(TokenbridgeError):
        server.client.get("/v1/status")


@pytest.mark.parametrize("given", [answer(b"Not Found", "404 Not Found"), answer(b"[]", "500 Oops"), b""])
def test_a_stream_that_does_not_begin_is_a_typed_error(serve: Serve, given: bytes) -> None:
    server = serve(given)
    with pytest.raises(TokenbridgeError):
        server.client.stream("POST", "/v1/sign-in", {})


def test_no_bridge(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnavailable):
        BridgeClient(tmp_path / "bridge.sock").get("/v1/status")


def lines(server: Server) -> list[dict[str, object]]:
    with server.client.stream("GET", "/v1/events") as stream:
        assert stream.connection_fd > 0
        return list(stream)


def test_a_stream_ends_with_its_last_line(serve: Serve) -> None:
    said = [{"event": "step", "step": "x"}, {"event": "done"}]
    body = b"".join(chunk(json.dumps(line).encode() + b"\n") for line in said)
    server = serve(HEAD + body + chunk(b""), HEAD + body)
    assert lines(server) == said
    assert lines(server) == said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        chunk(b""),
        chunk(b'{"event": "step"}\n'),
        chunk(b'{"event": "step"}\n') + chunk(b""),
        chunk(b'{"event": "st'),
        chunk(b"nonsense\n"),
        chunk(b"[]\n"),
        b"zz\r\n",
    ],
)
def test_a_bridge_that_goes_away_in_the_middle(serve: Serve, body: bytes) -> None:
    with pytest.raises(DaemonUnavailable):
        lines(serve(HEAD + body))


def test_questions_are_answered_and_declined_on_connections_of_their_own(serve: Serve) -> None:
    server = serve(HEAD + chunk(b'{"event": "done"}\n'), answer(b"", "204 No Content"), answer(b"", "204 No Content"))
    with server.client.stream("POST", "/v1/sign-in", {"url": "https://x"}) as stream:
        stream.answer("a/b", b"123456")
        stream.decline("c")
    assert server.asked[1].startswith(b"POST /v1/prompts/a")
    assert server.asked[1].endswith(b"\r\n\r\n123456")
    assert server.asked[2].startswith(b"DELETE /v1/prompts/c ")
