"""The caller's side of the socket: nobody else's socket gets a PIN, and nothing a bridge says is a traceback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tokenbridge.daemon import client
from tokenbridge.daemon.client import BridgeClient
from tokenbridge.errors import SetupError


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setenv("TOKENBRIDGE_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "bridge.sock"))
        opened.listen()
        opened.settimeout(5)
        yield opened


def test_a_socket_of_another_user_is_told_nothing(
    listener: socket.socket, tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(client.os, "getuid", return_value=os.getuid() + 1)
    for ask in (client.connect, lambda: BridgeClient(tmp_path / "bridge.sock").request("POST", "/v1/x", b"123456")):
        with pytest.raises(SetupError) as caught:
            ask()
        assert "another user" in caught.value.message
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b""


def test_a_socket_of_ones_own_is_taken(listener: socket.socket) -> None:
    assert isinstance(client.connect(start=False), BridgeClient)
