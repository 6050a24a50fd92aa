"""The workstation of a demo that is kept: the bridge takes its settings, and somebody answers where no window can."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tokenbridge.daemon import settings
from tokenbridge.daemon.prompts import Pending, PinentryInteraction, StreamInteraction
from tokenbridge.errors import Cancelled
from tokenbridge.interaction import PinRequest
from tokenbridge.rig.demo import workstation

ORIGIN = "https://localhost:8443"
REQUEST = PinRequest(purpose="sign-in", rp_name="Test", origin=ORIGIN, program="", holder="New Comer", tries_left=1)
only_root = pytest.mark.skipif(os.getuid() != 0, reason="the door is an administrator's to open")


def furnished(tmp_path: Path, **environ: str) -> workstation.Workstation:
    return workstation.furnish(tmp_path, ORIGIN, tmp_path / "ca.pem", {"PATH": str(tmp_path / "bin"), **environ})


def loaded(place: workstation.Workstation) -> settings.Settings:
    return settings.load({"XDG_CONFIG_HOME": str(place.config_home)})


@only_root
def test_a_demo_of_roots_opens_the_door(tmp_path: Path) -> None:
    place = furnished(tmp_path)
    found = loaded(place)
    assert (found.door_origins, found.door_port) == ((ORIGIN,), place.door_port)
    assert found.door_port < 32768
    assert place.opening == ""


def test_anybody_elses_leaves_it_to_an_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: 1000)
        place = furnished(tmp_path)
    found = loaded(place)
    assert (found.door_origins, found.ca_file) == ((), tmp_path / "ca.pem")
    assert place.opening.startswith("sudo install -m 644 -o root ")


@only_root
def test_what_the_administrator_is_told_to_type_opens_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's here"
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: 1000)
        place = furnished(folder)
    subprocess.run(["sh", "-c", place.opening.removeprefix("sudo ")], check=True, timeout=20)
    found = loaded(place)
    assert (found.door_origins, found.door_port, found.ca_file) == ((ORIGIN,), place.door_port, folder / "ca.pem")


def pinentry(tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    real = folder / kind
    real.write_text("#!/bin/sh\n")
    real.chmod(0o755)
    (folder / "pinentry").symlink_to(real)
    return folder


@pytest.mark.parametrize(
    ("kind", "environ", "window"),
    [
        ("pinentry-gnome3", {"DISPLAY": ":0"}, True),
        ("pinentry-qt", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("pinentry-gnome3", {}, False),
        ("pinentry-curses", {"DISPLAY": ":0"}, False),
    ],
)
def test_a_window_takes_a_display_and_a_pinentry_for_it(
    tmp_path: Path, kind: str, environ: Mapping[str, str], window: bool
) -> None:
    pinentry(tmp_path, kind)
    place = furnished(tmp_path, **environ)
    assert place.has_window is window
    assert (loaded(place).pinentry == "pinentry") is window


def answered(tmp_path: Path, *questions: str) -> list[Any]:
    """What the stand-in for a window says to the bridge's own side of the conversation."""

    async def nothing(_: Mapping[str, Any]) -> None: ...

    async def ask() -> list[Any]:
        place = furnished(tmp_path)
        stream = StreamInteraction(nothing, Pending(), 20)
        person = PinentryInteraction(stream, loaded(place).pinentry, {})
        given: list[Any] = []
        for question in questions:
            match question:
                case "pin":
                    with await person.ask_pin(REQUEST) as pin:
                        given.append(bytes(pin.reveal()))
                case "last-try":
                    given.append(await person.confirm_last_try(REQUEST))
                case "confirm":
                    given.append(await person.confirm("Sign in?", "You will be."))
                case "tell":
                    given.append(await person.tell("It was not done."))
        return given

    return asyncio.run(ask())


def test_where_no_window_can_open_somebody_agrees_and_types_the_pin(tmp_path: Path) -> None:
    assert answered(tmp_path, "confirm", "pin", "tell") == [None, b"123456", None]


def test_but_never_spends_the_last_try(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        answered(tmp_path, "last-try")
