"""The door's port: whose connections count, a port that is taken, and the bridge as a process that has a door."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.patience import until_async
from tokenbridge.daemon import tcp_peer
from tokenbridge.daemon.door_listener import DoorListener
from tokenbridge.rig.ports import free_port

from .conftest import ORIGIN, run
from .test_app import SECONDS, Bridge, command, place  # noqa: F401  a fixture
from .test_door import House, opened

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can begin a process of another user")

STRANGER = """
import encodings.idna, os, socket, sys  # all of it now: this user may not read the interpreter's files
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as connection:
    try:
        connection.sendall(sys.stdin.buffer.read())
        answer = connection.recv(65536)
    except ConnectionError:
        answer = b""
sys.stdout.buffer.write(answer)
"""


async def as_user(uid: int, port: int, raw: bytes) -> bytes:
    """What a program of the user `uid` gets for `raw`."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STRANGER, str(port), str(uid), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    answer, _ = await program.communicate(raw)
    assert program.returncode == 0
    return answer


# --- whose connection --------------------------------------------------------------------------------------------


@as_root
def test_another_user_of_the_machine_is_hung_up_on_with_everything_else_right(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            raw = house.request(content_type="text/plain")
            assert await as_user(NOBODY, house.port, raw) == b""
            assert (await as_user(os.getuid(), house.port, raw)).startswith(b"HTTP/1.1 400 ")

    run(work())


def connected(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """(the caller's end, the listener's end)"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.socket(family)
        host = "127.0.0.1" if family is socket.AF_INET else "::ffff:127.0.0.1"
        caller.connect((host, listener.getsockname()[1]))
        return caller, listener.accept()[0]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv4 by an IPv6 socket"])
def test_the_kernel_says_whose_it_is(family: socket.AddressFamily) -> None:
    caller, accepted = connected(family)
    with caller, accepted:
        assert tcp_peer.owner(accepted) == os.getuid()


def test_a_connection_that_is_being_closed_is_nobodys() -> None:
    caller, accepted = connected()
    with accepted:
        caller.close()
        assert tcp_peer.owner(accepted) is None


def test_without_the_kernels_table_nobody_is_known(tmp_path: Path, mocker: MockerFixture) -> None:
    caller, accepted = connected()
    with caller, accepted:
        mocker.patch.object(tcp_peer, "TCP", tmp_path / "absent")
        assert tcp_peer.owner(accepted) is None
        (tmp_path / "tcp").write_text("  sl  local_address rem_address\n   0: short\n")
        mocker.patch.object(tcp_peer, "TCP", tmp_path / "tcp")
        mocker.patch.object(tcp_peer, "TCP6", tmp_path / "tcp")
        assert tcp_peer.owner(accepted) is None


def test_the_row_of_the_other_end_counts_not_our_own(mocker: MockerFixture, tmp_path: Path) -> None:
    """Both ends are in the table when both are on this machine; here they belong to two users."""
    caller, accepted = connected()
    with caller, accepted:
        near, far = (f"0100007F:{end.getsockname()[1]:04X}" for end in (accepted, caller))
        rest = "01 00000000:00000000 00:00000000 00000000"
        table = f"head\n 0: {near} {far} {rest} 1000 0 1\n 1: {far} {near} {rest} 1001 0 2\n"
        (tmp_path / "tcp").write_text(table)
        mocker.patch.object(tcp_peer, "TCP", tmp_path / "tcp")
        assert tcp_peer.owner(accepted) == (1001 if sys.byteorder == "little" else None)


def test_who_is_not_known_is_refused(tmp_path: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(tcp_peer, "TCP", tmp_path / "absent")

    async def work() -> None:
        async with opened(House(tmp_path)) as house:
            assert await house.ask(house.request()) == b""

    run(work())


# --- the port ----------------------------------------------------------------------------------------------------


def test_no_door_is_wanted(tmp_path: Path) -> None:
    async def work() -> None:
        listener = DoorListener(House(tmp_path).listener._config.app, None)  # type: ignore[arg-type]
        await listener.open()
        assert listener.view == {"state": "off"}
        await listener.close()

    run(work())


def test_a_taken_port_leaves_the_door_shut_and_a_free_one_opens_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        house = House(tmp_path)
        with socket.create_server(("127.0.0.1", house.port)):
            await house.listener.open()
            await house.listener.open()
            assert house.listener.view == {
                "state": "shut",
                "address": f"127.0.0.1:{house.port}",
                "why": "another program, or another user's bridge, has the port",
            }
            assert "the door stays shut" in caplog.text
        async with opened(house):
            assert house.listener.view == {"state": "open", "address": f"127.0.0.1:{house.port}", "why": ""}

    run(work())


def test_opened_by_two_at_once_it_is_open(tmp_path: Path) -> None:
    async def work() -> None:
        house = House(tmp_path)
        await asyncio.gather(house.listener.open(), house.listener.open())
        async with opened(house):
            assert house.listener.view["why"] == ""

    run(work())


def test_it_is_reachable_by_loopback_only_and_closed_at_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        house = House(tmp_path)
        async with opened(house):
            assert house.listener._server is not None
            (listening,) = house.listener._server.sockets
            assert listening.getsockname() == ("127.0.0.1", house.port)
            _, writer = await house.connect()
            await until_async(lambda: house.listener._state.connections)
        with pytest.raises(ConnectionRefusedError):
            await house.connect()
        writer.close()

    run(work())


# --- as a process ------------------------------------------------------------------------------------------------


def furnish(place: Path, port: int) -> None:  # noqa: F811
    folder = place / "config" / "tokenbridge"
    folder.mkdir(parents=True)
    (folder / "bridge.toml").write_text(f'door_origins = ["{ORIGIN}"]\ndoor_port = {port}\n')


def status(*options: str) -> str:
    return command("status", *options).communicate(timeout=2 * SECONDS)[0]


@as_root
def test_a_bridge_with_a_door_says_so_and_lets_pages_in(place: Path) -> None:  # noqa: F811
    port = free_port()
    furnish(place, port)
    bridge = Bridge(place)
    try:
        assert f"door    open to web pages at 127.0.0.1:{port}" in status()
        assert json.loads(status("--json"))["door"]["state"] == "open"
        head = f"OPTIONS /hand-over HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\norigin: {ORIGIN}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as page:
            page.sendall(head.encode())
            assert page.recv(65536).startswith(b"HTTP/1.1 204 ")
    finally:
        bridge.process.terminate()
        code, log = bridge.end()
    assert code == 0
    assert "Traceback" not in log


@as_root
def test_a_bridge_whose_port_is_taken_does_without(place: Path) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        furnish(place, port)
        bridge = Bridge(place)
        try:
            assert f"door    shut at 127.0.0.1:{port}: another program" in status()
        finally:
            bridge.process.terminate()
            assert "the door stays shut" in bridge.end()[1]


def test_without_origins_there_is_no_door(place: Path) -> None:  # noqa: F811
    bridge = Bridge(place)
    try:
        assert "door" not in status()
        assert json.loads(status("--json"))["door"] == {"state": "off"}
    finally:
        bridge.process.terminate()
        bridge.end()
