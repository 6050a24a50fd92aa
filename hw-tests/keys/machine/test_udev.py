"""What our rules grant, to whom: by udev itself, with ordinary users who try to open the device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenbridge.daemon import udev_setup

SECONDS = 60
FIDO_RULES = [Path(f"{root}/udev/rules.d/60-fido-id.rules") for root in ("/usr/lib", "/lib")]
FIDO_ID = [Path(f"{root}/udev/fido_id") for root in ("/usr/lib", "/lib")]
SYSTEMD_RULES = [Path(f"{root}/udev/rules.d/70-uaccess.rules") for root in ("/usr/lib", "/lib")]


@pytest.fixture
def no_rules(udev: Any) -> Any:
    """A machine with udev alone: nobody tags keys."""
    udev.without(*SYSTEMD_RULES)
    return udev


def test_udev_knows_it_for_a_security_token(udev: Any, key: Any) -> None:
    found = udev.properties(key.path)
    assert found["ID_FIDO_TOKEN"] == "1"
    assert found["ID_SECURITY_TOKEN"] == "1"


def test_without_rules_nobody_may_open_it(no_rules: Any, key: Any, alice: Any, bob: Any) -> None:
    assert not alice.may_open(key.path)
    assert not bob.may_open(key.path)


def test_the_person_at_the_seat_gets_it_and_nobody_else(
    no_rules: Any, install: Any, key: Any, alice: Any, bob: Any
) -> None:
    no_rules.seat(alice.user)
    install()
    assert ":uaccess:" in no_rules.properties(key.path)["TAGS"]
    assert alice.may_open(key.path)
    assert not bob.may_open(key.path)


def test_it_holds_for_keys_that_are_plugged_in_later(
    no_rules: Any, install: Any, key: Any, alice: Any, bob: Any
) -> None:
    no_rules.seat(alice.user)
    install()
    key.replug()
    no_rules("settle")
    assert alice.may_open(key.path)
    no_rules.seat(bob.user)
    key.replug()
    no_rules("settle")
    assert not alice.may_open(key.path)
    assert bob.may_open(key.path)


def test_without_systemd_a_group_gets_it(no_rules: Any, install: Any, key: Any, alice: Any, bob: Any) -> None:
    install()
    assert not alice.may_open(key.path)
    assert bob.may_open(key.path)


def test_a_group_gets_it_on_systemd_too_if_asked(no_rules: Any, install: Any, key: Any, alice: Any, bob: Any) -> None:
    no_rules.seat(alice.user)
    install("plugdev")
    assert alice.may_open(key.path)
    assert bob.may_open(key.path)


def test_udev_that_can_not_tell_goes_by_numbers(no_rules: Any, install: Any, key: Any, bob: Any) -> None:
    no_rules.without(*FIDO_RULES, *FIDO_ID)
    key.replug()
    no_rules("settle")
    assert "ID_FIDO_TOKEN" not in no_rules.properties(key.path)
    install()
    assert no_rules.properties(key.path)["ID_FIDO_TOKEN"] == "1"
    assert bob.may_open(key.path)


def test_taken_away_they_grant_nothing_to_what_comes_next(no_rules: Any, install: Any, key: Any, bob: Any) -> None:
    install()
    udev_setup.uninstall()
    key.replug()
    no_rules("settle")
    assert not bob.may_open(key.path)


def test_the_command_line_does_it_all(no_rules: Any, key: Any, bob: Any, install: Any) -> None:
    tokenbridge = shutil.which("tokenbridge", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert tokenbridge is not None
    done = subprocess.run([tokenbridge, "setup", "udev", "--json"], capture_output=True, check=True, timeout=SECONDS)
    said = json.loads(done.stdout)["udev"]
    assert (said["changed"], said["applied"]) == (True, True)
    assert "60-fido-id.rules" < Path(said["path"]).name < "73-seat-late.rules"
    assert bob.may_open(key.path)
    assert not install().changed
