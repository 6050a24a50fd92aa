"""The door is the administrator's to open: in which file, by whom, for which origins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tokenbridge.daemon import paths, settings
from tokenbridge.errors import SetupError

DOOR = 'door_origins = ["https://portal.example.org", "https://two.example:8443"]\ndoor_port = 30000\n'
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can own a file as an administrator does")


class Machine:
    """A person's settings file and the machine's."""

    def __init__(self, folder: Path) -> None:
        self.environ = {"XDG_CONFIG_HOME": str(folder / "config")}
        self.own = folder / "config" / "tokenbridge" / "bridge.toml"
        self.machine = folder / "etc" / "bridge.toml"
        for path in (self.own, self.machine):
            path.parent.mkdir(parents=True)

    def load(self) -> settings.Settings:
        return settings.load(self.environ)


@pytest.fixture
def machine(tmp_path: Path, mocker: MockerFixture) -> Machine:
    made = Machine(tmp_path)
    mocker.patch.object(paths, "MACHINE_CONFIG", made.machine)
    return made


def test_by_default_there_is_none(machine: Machine) -> None:
    assert machine.load().door_origins == ()


@as_root
def test_the_administrators_file_opens_it(machine: Machine) -> None:
    machine.machine.write_text(DOOR)
    found = machine.load()
    assert found.door_origins == ("https://portal.example.org", "https://two.example:8443")
    assert found.door_port == 30000


@as_root
def test_it_holds_for_a_person_who_has_a_file_too(machine: Machine) -> None:
    machine.machine.write_text(f'{DOOR}pinentry = "theirs"\n')
    machine.own.write_text('pinentry = "mine"\n')
    found = machine.load()
    assert (len(found.door_origins), found.door_port, found.pinentry) == (2, 30000, "mine")


@as_root
@pytest.mark.parametrize("which", ["own", "machine"])
@pytest.mark.parametrize("how", ["another owner", "group", "others"])
def test_a_file_that_others_can_write_does_not_open_it(machine: Machine, which: str, how: str) -> None:
    path: Path = getattr(machine, which)
    path.write_text(DOOR)
    if how == "another owner":
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o664 if how == "group" else 0o646)
    with pytest.raises(SetupError) as caught:
        machine.load()
    assert str(path) in caught.value.message
    assert "only an administrator" in caught.value.message


@pytest.mark.skipif(os.getuid() == 0, reason="root's own file is an administrator's")
def test_a_persons_own_file_does_not_open_it(machine: Machine) -> None:
    machine.own.write_text(DOOR)
    with pytest.raises(SetupError, match="only an administrator"):
        machine.load()


@pytest.mark.parametrize("name", ["DOOR_ORIGINS", "DOOR_PORT"])
def test_the_environment_does_not_open_it(machine: Machine, name: str) -> None:
    machine.environ[f"TOKENBRIDGE_{name}"] = "https://portal.example.org" if name == "DOOR_ORIGINS" else "30000"
    with pytest.raises(SetupError) as caught:
        machine.load()
    assert f"TOKENBRIDGE_{name}" in caught.value.message


@as_root
@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "portal.example.org",
        "https://portal.example.org/",
        "https://portal.example.org/sign-in",
        "https://portal.example.org:443",
        "https://Portal.example.org",
        "https://*.example.org",
        "https://user@portal.example.org",
        "http://portal.example.org",
        "file:///x",
        "https://",
        "https://[::1%25eth0]",
    ],
)
def test_what_is_no_origin_is_refused(machine: Machine, origin: str) -> None:
    machine.machine.write_text(f'door_origins = ["{origin}"]\n')
    with pytest.raises(SetupError, match="is no origin"):
        machine.load()


@as_root
@pytest.mark.parametrize("line", ["door_port = 80", "door_port = 65536", "door_port = -1", 'door_port = "30000"'])
def test_ports_that_can_not_be(machine: Machine, line: str) -> None:
    machine.machine.write_text(f"{line}\n")
    with pytest.raises(SetupError, match="door_port"):
        machine.load()


@as_root
def test_so_many_origins_are_refused(machine: Machine) -> None:
    named = ", ".join(f'"https://p{number}.example"' for number in range(settings.MOST_ORIGINS + 1))
    machine.machine.write_text(f"door_origins = [{named}]\n")
    with pytest.raises(SetupError, match="more than"):
        machine.load()
