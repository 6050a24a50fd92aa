"""Clients that hold connections and do nothing with them, and floods of slow work."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from tests.server.conftest import Bench, Server
from tokenbridge.server import connections, middleware, sign_in
from tokenbridge.server.connections import Guarded, guarded
from tokenbridge.server.middleware import Envelope


async def hello(_scope, receive, send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@contextlib.contextmanager
def served(protocol: type[asyncio.Protocol], application=hello) -> Iterator[int]:
    """The protocol under uvicorn in a thread, on a free port of loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=protocol, log_config=None, lifespan="off", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def ends(client: socket.socket) -> bool:
    """Whether the server hangs up within ten seconds."""
    client.settimeout(10)
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def drip(client: socket.socket, most: int) -> int:
    """Send header after header, each after a while; returns how many went out before the server hung up."""
    try:
        client.sendall(b"GET / HTTP/1.1\r\n")
        for count in range(most):
            client.sendall(b"a: b\r\n")
            with contextlib.suppress(TimeoutError):
                if client.recv(1) == b"":
                    return count
    except ConnectionError:
        return count
    return most


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HT"],
    ids=["nothing", "half a request", "one and a half"],
)
def test_who_never_finishes_a_request_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, said: bytes):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    with served(Guarded) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(said)
        assert ends(client)


def test_dripping_headers_do_not_put_the_end_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    with served(Guarded) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.05)
        assert drip(client, 200) < 100


def test_requests_one_after_the_other_are_not_disturbed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    with served(Guarded) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        for _ in range(5):
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"hi"):
                answer += client.recv(4096)
            threading.Event().wait(0.1)  # longer in total than a request may take


def test_beyond_the_most_the_newest_is_hung_up_on():
    class Two(Guarded):
        most = 2

    with served(Two) as port, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)]
        assert ends(clients[2])
        clients[0].settimeout(10)
        clients[0].sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert clients[0].recv(4096).startswith(b"HTTP/1.1 200")


def test_there_is_room_for_all_files(monkeypatch: pytest.MonkeyPatch):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert guarded().most == connections.MOST
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(300, before[1]), before[1]))
        monkeypatch.setattr(connections, "MANY_FILES", 300)
        assert guarded().most == 300 - connections.RESERVED_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_rest_of_a_body_that_is_too_large_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(middleware, "QUIET_SECONDS", 0.2)
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n"
    application = Envelope(hello, strict_transport=False)
    with served(Guarded, application) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head + b"x")
        client.settimeout(10)
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413")


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, and says how long it is."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await PlainTextResponse(str(size))(scope, receive, send)


def told(application: Any, sent: bytes) -> bytes:
    """What is answered until the connection ends, or the answer is whole."""
    envelope = Envelope(application, strict_transport=False, rooms={"/large": 100_000})
    with served(Guarded, envelope) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        client.sendall(sent)
        answer = b""
        while part := client.recv(4096):
            answer += part
            if answer.endswith((b"hi", b"60000")):
                break
    return answer


def post(path: str, length: int, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode() + body


def test_a_larger_body_is_for_its_address_and_its_handler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(middleware, "QUIET_SECONDS", 0.2)
    assert told(reading, post("/large", 60_000, b"x" * 60_000)).startswith(b"HTTP/1.1 200")
    assert told(reading, post("/other", 60_000, b"x")).startswith(b"HTTP/1.1 413")
    assert told(reading, post("/large/", 60_000, b"x")).startswith(b"HTTP/1.1 413")


def test_a_larger_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(middleware, "STREAM_SECONDS", 0.3)
    assert told(reading, post("/large", 60_000, b"x" * 100)).startswith(b"HTTP/1.1 400")


def test_who_is_answered_before_the_body_is_whole_sees_it_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.3)
    early = told(hello, post("/large", 60_000, b"x" * 100))
    assert early.endswith(b"hi")
    assert b"connection: close" in early.lower()
    whole = told(reading, post("/large", 60_000, b"x" * 60_000))
    assert whole.endswith(b"60000")
    assert b"connection: close" not in whole.lower()


@pytest.mark.parametrize("path", ["/large", "/other"])
def test_who_sends_far_too_much_and_looks_only_then_sees_the_whole_answer(path: str):
    """As browsers do. A server that hangs up at once resets the connection, and the answer is lost."""
    sent = post(path, 16 << 20, b"x" * (16 << 20))
    for _ in range(5):
        answer = told(reading, sent)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b'"too-large"' in answer


@pytest.mark.parametrize(("whole", "quiet"), [(0.3, 60), (60, 0.3)])
def test_what_nobody_wanted_is_read_for_so_long_only(monkeypatch: pytest.MonkeyPatch, whole: float, quiet: float):
    monkeypatch.setattr(middleware, "BODY_SECONDS", whole)
    monkeypatch.setattr(middleware, "QUIET_SECONDS", quiet)
    envelope = Envelope(hello, strict_transport=False, rooms={"/large": 100_000})
    with served(Guarded, envelope) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(post("/large", 60_000, b"x"))
        assert ends(client)


def test_what_nobody_wanted_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(middleware, "MAX_SPILL", 1 << 20)
    envelope = Envelope(hello, strict_transport=False, rooms={"/large": 100_000})
    with served(Guarded, envelope) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(10)
        with pytest.raises(ConnectionError):
            client.sendall(post("/large", 512 << 20, b"x" * (64 << 20)))


def test_only_so_many_passwords_wait_for_their_comparison(bench: Bench, server: Server):
    """The flood is answered at once, and a card gets through in the middle of it."""
    names = [f"flood{number}" for number in range(sign_in.MOST_HASHING * 2)]
    tickets = [server.begin() for _ in names]
    person, ticket = bench.person(), server.begin()
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        running = [pool.submit(server.password, *pair) for pair in zip(tickets, names, strict=True)]
        assert server.card(ticket, person.card.token(ticket["nonce"])).status_code == 200
        codes = [future.result().status_code for future in running]
    assert set(codes) == {403, 429}
    assert codes.count(403) >= sign_in.MOST_HASHING


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
def test_old_tls_is_not_spoken(server: Server, version: ssl.TLSVersion):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        pytest.warns(DeprecationWarning, match="deprecated")
        if version < ssl.TLSVersion.TLSv1_2
        else contextlib.nullcontext()
    ):
        context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, trust_env=False) as client:
        if version is ssl.TLSVersion.TLSv1_2:
            assert client.get(server.url + "/healthz").status_code == 200
        else:
            with pytest.raises(httpx.ConnectError):
                client.get(server.url + "/healthz")


def test_passwords_are_hashed_slowly():
    """RFC 9106 section 4, second recommended option. Asked of a process of its own: the tests' own hashes are cheap."""
    code = "from tokenbridge.server import passwords; print(passwords.hash_password('correct horse battery'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
