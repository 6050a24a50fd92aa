"""Debian's libpam-u2f signs in at a PAM service with our key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.foreign

SERVICE = Path("/etc/pam.d/tokenbridge-hw-test")
ORIGIN = "pam://ward-7"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """`service(line of pamu2fcfg, options...)` makes a PAM service that takes that key; gives its name."""
    if SERVICE.exists():
        pytest.fail(f"{SERVICE} is there already", pytrace=False)

    def make(mapping: str, *options: str) -> str:
        file = tmp_path / "u2f_keys"
        file.write_text(mapping.strip() + "\n")
        words = [f"authfile={file}", f"origin={ORIGIN}", f"appid={ORIGIN}", "cue", *options]
        SERVICE.write_text(f"auth required pam_u2f.so {' '.join(words)}\naccount required pam_permit.so\n")
        return SERVICE.name

    yield make
    SERVICE.unlink(missing_ok=True)


def _enrol(tool: Any, key: Any, *flags: str, answers: tuple[str, ...] = ()) -> str:
    key.touch()
    said = tool("pamu2fcfg", "-u", "root", "-o", ORIGIN, "-i", ORIGIN, *flags, answers=answers)
    assert re.match(r"root:[^,]+,[^,]+,(es256|rs256),\+presence", said)
    return str(said)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_signing_in_by_touch(tool: Any, key: Any, service: Any, algorithm: str) -> None:
    name = service(_enrol(tool, key, "-t", algorithm))
    key.touch()
    assert "successfully authenticated" in tool("pamtester", name, "root", "authenticate")


def test_signing_in_by_pin(tool: Any, key_with_pin: Any, service: Any) -> None:
    enrolled = _enrol(tool, key_with_pin, "-N")
    assert "+pin" in enrolled
    name = service(enrolled, "pinverification=1")
    key_with_pin.touch()
    said = tool("pamtester", name, "root", "authenticate", answers=(key_with_pin.pin,))
    assert "successfully authenticated" in said


def test_a_wrong_pin_does_not_sign_in(tool: Any, key_with_pin: Any, service: Any) -> None:
    name = service(_enrol(tool, key_with_pin, "-N"), "pinverification=1")
    tool("pamtester", name, "root", "authenticate", answers=("000000",), ok=False)
    assert "pin retries: 7" in tool("fido2-token", "-I", key_with_pin.path)


def test_a_resident_credential_signs_in(tool: Any, key_with_pin: Any, service: Any) -> None:
    name = service(_enrol(tool, key_with_pin, "-r", "-N", answers=(key_with_pin.pin,)), "pinverification=1")
    key_with_pin.touch()
    tool("pamtester", name, "root", "authenticate", answers=(key_with_pin.pin,))


def test_a_key_that_was_never_enrolled_does_not_sign_in(tool: Any, key: Any, service: Any) -> None:
    handle, rest = _enrol(tool, key).split(":")[1].split(",", 1)
    damaged = handle[:20] + ("A" if handle[20] != "A" else "B") + handle[21:]
    name = service(f"root:{damaged},{rest}")
    tool("pamtester", name, "root", "authenticate", ok=False)
