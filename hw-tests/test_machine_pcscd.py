"""Where user namespaces are forbidden the demo stands on the machine's daemon, or says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig import machine_pcscd
from tokenbridge.rig.machine_pcscd import MachinePcscd, start_any
from tokenbridge.rig.pcscd import PrivatePcscd

pytestmark = pytest.mark.pcscd


@pytest.fixture
def no_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `unshare` that refuses, as systems do that restrict unprivileged namespaces."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: write failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin:/usr/sbin:/sbin")


@pytest.mark.usefixtures("no_namespaces")
def test_the_machines_daemon_is_taken(pcscd: PrivatePcscd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_pcscd, "SOCKET", pcscd.socket_path)
    monkeypatch.setattr(MachinePcscd, "ports", pcscd.ports)
    found = start_any(tmp_path / "own")
    assert isinstance(found, MachinePcscd)
    assert found.ports == pcscd.ports
    found.stop()
    assert pcscd.pid is not None  # it is not ours to stop


@pytest.mark.usefixtures("no_namespaces")
def test_a_machine_without_virtual_readers(
    pcscd: PrivatePcscd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_pcscd, "SOCKET", pcscd.socket_path)
    monkeypatch.setattr(MachinePcscd, "ports", (1, 2))
    with pytest.raises(SetupError) as caught:
        start_any(tmp_path / "own")
    assert "no virtual readers" in caught.value.message
    assert "Operation not permitted" in caught.value.hint


@pytest.mark.usefixtures("no_namespaces")
def test_no_daemon_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_pcscd, "SOCKET", tmp_path / "nothing")
    with pytest.raises(SetupError, match="does not answer") as caught:
        start_any(tmp_path / "own")
    assert "systemctl start pcscd.socket" in caught.value.hint
