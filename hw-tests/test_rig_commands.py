"""`tokenbridge rig` as a person uses it, on a real pcscd: daemon, insert, pull, all as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import SECONDS, ended
from tokenbridge.cli.rig import rig

pytestmark = pytest.mark.pcscd

RIG = [sys.executable, "-c", "from tokenbridge.cli.rig import rig; rig()"]


def test_a_card_from_nothing_to_the_reader_and_back(tmp_path: Path, run_tool) -> None:
    assert rig.name == "rig"
    home = ("--home", str(tmp_path / "rig"))
    run_tool(*RIG, "card", "new", "ada", "--key", "9A:p256", *home)
    assert "inserted, port" in run_tool(*RIG, "card", "insert", "ada", "--slot", "1", *home)
    assert "Yes" in run_tool("opensc-tool", "-l").splitlines()[3]
    assert "000123456789" in run_tool("pkcs15-tool", "--reader", "1", "-D")
    listed = json.loads(run_tool(*RIG, "card", "list", "--json", *home))
    assert [card["name"] for card in listed["cards"] if card["inserted"]] == ["ada"]
    assert "out" in run_tool(*RIG, "card", "remove", "ada", *home)
    assert "Yes" not in run_tool("opensc-tool", "-l")


def test_private_daemon_in_the_foreground(tmp_path: Path) -> None:
    command = [*RIG, "pcscd", "--directory", str(tmp_path / "d"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with ended(process):
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert Path(said["environ"]["PCSCLITE_CSOCK_NAME"]).is_socket()
        assert sorted(said["readers"]) == ["Virtual PCD 00 00", "Virtual PCD 00 01"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert not Path(f"/proc/{said['pid']}").exists(), "the daemon does not outlive the command"
