"""The systemd units agree with where the bridge and its clients look."""

from __future__ import annotations

import configparser
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.patience import SECONDS, ended
from tokenbridge.daemon import paths
from tokenbridge.daemon.client import BridgeClient

UNITS = Path(__file__).parent.parent / "systemd"


def _unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # systemd's names keep their case
    assert parser.read(UNITS / name)
    return parser


def test_the_socket_is_where_clients_look_and_private() -> None:
    unit = _unit("tokenbridge.socket")["Socket"]
    stands = unit["ListenStream"].replace("%t", "/run/user/1000")
    assert stands == str(paths.socket_path({"XDG_RUNTIME_DIR": "/run/user/1000"}))
    assert (unit["SocketMode"], unit["DirectoryMode"]) == ("0600", "0700")


def test_the_service_runs_the_bridge_for_that_socket() -> None:
    service = _unit("tokenbridge.service")
    assert service["Service"]["ExecStart"].endswith("tokenbridge daemon run")
    assert service["Unit"]["Requires"] == "tokenbridge.socket"


def test_a_passed_socket_is_served(tmp_path: Path) -> None:
    """As systemd does it: the socket is descriptor 3, LISTEN_PID is the bridge's own process."""
    path = tmp_path / "given.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        script = (
            "import os, sys\n"
            f"os.dup2({listener.fileno()}, 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.set_inheritable(3, True)\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'tokenbridge', 'daemon', 'run'])\n"
        )
        environ = os.environ | {
            "TOKENBRIDGE_RUNTIME_DIR": str(tmp_path / "run"),
            "TOKENBRIDGE_STATE_DIR": str(tmp_path / "state"),
            "PCSCLITE_CSOCK_NAME": str(tmp_path / "no-pcscd"),
        }
        bridge = subprocess.Popen(
            [sys.executable, "-c", script], env=environ, pass_fds=(listener.fileno(),), stderr=subprocess.PIPE
        )
    with ended(bridge):
        assert BridgeClient(path).get("/v1/status")["pid"] == bridge.pid
        bridge.terminate()
        assert bridge.wait(SECONDS) == 0
    assert path.exists()  # it is systemd's to remove
