"""The private daemon where something is missing or goes wrong; what works is tested in hw-tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig import pcscd
from tokenbridge.rig.pcscd import PrivatePcscd, ports_of


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first among programs, with a driver in place."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    driver = tmp_path / "lib" / pcscd.DRIVER
    driver.parent.mkdir(parents=True)
    driver.touch()
    monkeypatch.setattr(pcscd, "DRIVER_ROOTS", (tmp_path / "lib",))
    monkeypatch.setattr(pcscd, "RUN", tmp_path / "mountpoint")
    (tmp_path / "mountpoint").mkdir()
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_daemon_not_installed(tmp_path: Path, mocker) -> None:
    mocker.patch("shutil.which", return_value=None)
    with pytest.raises(SetupError, match="pcscd is not installed") as caught:
        PrivatePcscd(tmp_path).start()
    assert "apt-get install pcscd vsmartcard-vpcd" in caught.value.hint


def test_driver_not_installed(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(programs, "pcscd", "exit 0")
    monkeypatch.setattr(pcscd, "DRIVER_ROOTS", (tmp_path / "nothing",))
    with pytest.raises(SetupError, match="driver") as caught:
        PrivatePcscd(tmp_path / "d").start()
    assert "vsmartcard-vpcd" in caught.value.hint


def test_driver_in_the_multiarch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "x86_64-linux-gnu" / pcscd.DRIVER
    driver.parent.mkdir(parents=True)
    driver.touch()
    monkeypatch.setattr(pcscd, "DRIVER_ROOTS", (tmp_path,))
    assert pcscd._driver() == driver


def test_daemon_that_dies_at_once(tmp_path: Path, programs: Path) -> None:
    put(programs, "pcscd", "echo it is broken; exit 3")
    # in the place of the namespace program, which this test does not need
    put(programs, "unshare", 'while [ "$1" != sh ]; do shift; done; exec "$6" "$7"')
    daemon = PrivatePcscd(tmp_path / "d")
    with pytest.raises(SetupError, match="did not start") as caught:
        daemon.start()
    assert "it is broken" in caught.value.detail
    assert daemon.pid is None


def test_stop_without_start(tmp_path: Path) -> None:
    PrivatePcscd(tmp_path).stop()
    PrivatePcscd(tmp_path).kill()


@pytest.mark.parametrize("content", [None, "", "[]", '{"ports": "x"}', '{"ports": 5}', "{"])
def test_not_the_socket_of_a_private_daemon(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "rig.json").write_text(content)
    assert ports_of(tmp_path / "pcscd.comm") == ()


def test_free_ports_are_adjacent() -> None:
    first, second = pcscd._free_ports()
    assert second == first + 1
