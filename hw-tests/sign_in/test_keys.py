"""Security keys through the real bridge, command line and relying party; beside cards on the real PC/SC daemon.

The keys are devices of the kernel's where it makes them (`make hw-test`), and packet sockets elsewhere (`make test`).
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyotp
import pytest

from tokenbridge.rig.key_pki import KeyPki
from tokenbridge.rig.key_serve import identity
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.plugin import CardMaker, Slots
from tokenbridge.rig.provision import DEFAULT_UID, Staff
from tokenbridge.rig.virtual_key import Profile, Touch, VirtualKey
from tokenbridge.rig.workplace import PASSWORD, Ran, Workplace
from tokenbridge.transport.uhid import UHID, UhidDevice

USER = "grace"
PIN = "4711"
AAGUID = bytes.fromhex("0b7e5c2a6f0d4c599a35f3d1c2a4e871")


class Desk:
    """A workplace whose relying party trusts the makers of the rig's keys, and one account for each test."""

    def __init__(self, place: Workplace, pki: KeyPki) -> None:
        self.place = place
        self.pki = pki
        self.people = 0
        self.totp = ""

    def person(self) -> str:
        """A new account with password and authenticator app."""
        self.people += 1
        name = f"{USER}{self.people}"
        self.totp = self.place.add_user(name, "Grace Hopper")
        return name

    def code(self, user: str) -> str:
        return str(self.place.must_json("server", "user", "enrolment-code", user)["code"])

    def register(self, user: str, *options: str, secrets: Mapping[str, str] | None = None) -> Ran:
        given = {"--enrolment-code-fd": self.code(user), "--new-pin-fd": PIN, **(secrets or {})}
        return self.place.at_site("key", "register", options=("--by-code", "--user", user, *options), secrets=given)

    def plug(self, key: VirtualKey, name: str = "blue") -> None:
        if os.access(UHID, os.R_OK | os.W_OK):
            key.plug(UhidDevice.open(replace(identity(key), name=name)))
            return
        self.place.key_sockets.mkdir(mode=0o700, exist_ok=True)
        key.plug(KeySocket(self.place.key_sockets / f"{name}-{key.serial}.key"))


@pytest.fixture(scope="module")
def desk(pcscd: PrivatePcscd, rig_pki: RigPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    place = Workplace(tmp_path_factory.mktemp("keys"), pcscd)
    pki = place.directory / "pki"
    rig_pki.save(pki)
    place.init_server()
    place.trust("rig", pki, "--map-nhs-uid")
    makers = KeyPki.create(now=datetime.now(UTC))
    makers.save(place.directory)
    place.trust_keys(place.directory / "key-root.pem", str(uuid.UUID(bytes=AAGUID)))
    place.start_server()
    yield Desk(place, makers)
    place.stop()


@pytest.fixture
def make_key(desk: Desk) -> Iterator[Any]:
    made: list[VirtualKey] = []

    def make(**profile: Any) -> VirtualKey:
        key = VirtualKey.create(Profile(**{"aaguid": AAGUID, **profile}), pki=desk.pki)
        made.append(key)
        return key

    yield make
    for key in made:
        key.close()


def test_from_an_enrolment_code_to_a_sign_in_with_nothing_but_the_key(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key()
    desk.plug(key)
    registered = desk.register(user, "--name", "blue key", "--json")
    assert registered.code == 0, registered.output
    answer = json.loads(registered.output)
    assert answer["key"]["level"] == 3
    assert len(answer["recovery_codes"]) == 10
    signed_in = desk.place.sign_in("--json", secrets={"--pin-fd": PIN})
    outcome = json.loads(signed_in.output)
    assert (outcome["decision"], outcome["assurance"]["aal"], outcome["account"]["username"]) == ("allow", 3, user)
    assert "totp" in outcome["suppressed"]


@pytest.mark.slow_under_emulation
def test_a_card_or_the_key_whichever_is_there(desk: Desk, make_key: Any, slots: Slots, make_card: CardMaker) -> None:
    desk.place.run("server", "user", "add", "ada", "--display-name", "Ada", "--nhs-uid", DEFAULT_UID,
                   secrets={"--password-fd": PASSWORD})  # fmt: skip
    user, key = desk.person(), make_key()
    desk.plug(key)
    assert desk.register(user).code == 0
    slots.insert(make_card(Staff()).card)
    both = desk.place.sign_in("--key", "any", "--json", secrets={"--pin-fd": PIN})
    assert json.loads(both.output)["account"]["username"] == user
    card = desk.place.sign_in("--card", "--json", secrets={"--pin-fd": "123456"})
    assert json.loads(card.output)["account"]["username"] == "ada"
    key.unplug()
    alone = desk.place.sign_in("--json", secrets={"--pin-fd": "123456"})
    assert json.loads(alone.output)["account"]["username"] == "ada"


@pytest.mark.slow_under_emulation
def test_touch_alone_is_one_factor_and_the_password_the_other(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key(client_pin=False)
    desk.plug(key)
    assert desk.register(user).code == 0
    alone = desk.place.sign_in("--json", secrets={"--pin-fd": PIN})
    assert json.loads(alone.output)["decision"] == "challenge"
    options = ("--key", "any", "--user", user, "--json")
    both = desk.place.sign_in(*options, secrets={"--password-fd": PASSWORD})
    outcome = json.loads(both.output)
    assert (outcome["decision"], outcome["assurance"]["aal"]) == ("allow", 2)


@pytest.mark.slow_under_emulation
def test_a_password_and_then_the_key(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key()
    desk.plug(key)
    assert desk.register(user).code == 0
    done = desk.place.sign_in("--user", user, "--json", secrets={"--password-fd": PASSWORD, "--pin-fd": PIN})
    outcome = json.loads(done.output)
    assert (outcome["decision"], outcome["assurance"]["aal"]) == ("allow", 3)


@pytest.mark.slow_under_emulation
def test_a_key_that_keeps_nothing_needs_the_user_name(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key(discoverable=False, credential_management=False)
    desk.plug(key)
    assert desk.register(user).code == 0
    assert "key-not-registered" in desk.place.sign_in("--key", "any", secrets={"--pin-fd": PIN}).output
    named = desk.place.sign_in("--key", "any", "--user", user, "--json", secrets={"--pin-fd": PIN})
    assert json.loads(named.output)["account"]["username"] == user


@pytest.mark.slow_under_emulation
def test_a_second_key_after_a_sign_in_with_the_first(desk: Desk, make_key: Any) -> None:
    user, first, second = desk.person(), make_key(), make_key()
    desk.plug(first, "first")
    assert desk.register(user).code == 0
    desk.plug(second, "second")
    options = ("--key", first.serial, "--new-key", second.serial, "--name", "spare", "--json")
    added = desk.place.at_site("key", "register", options=options, secrets={"--pin-fd": PIN, "--new-pin-fd": PIN})
    assert "recovery_codes" not in json.loads(added.output)
    listed = desk.place.at_site("account", "keys", options=("--key", first.serial, "--json"), secrets={"--pin-fd": PIN})
    names = {item["name"]: item["id"] for item in json.loads(listed.output)["keys"]}
    assert "spare" in names
    removed = desk.place.at_site(
        "account", "remove-key", options=(str(names["spare"]), "--key", first.serial), secrets={"--pin-fd": PIN}
    )
    assert removed.code == 0
    refused = desk.place.sign_in("--key", second.serial, secrets={"--pin-fd": PIN})
    assert refused.code == 5


@pytest.mark.slow_under_emulation
def test_the_last_key_is_not_removed_by_accident(desk: Desk, make_key: Any) -> None:
    desk.people += 1
    user, key = f"{USER}{desk.people}", make_key()
    desk.place.must("server", "user", "add", user, "--display-name", "G", secrets={"--password-fd": PASSWORD})
    desk.plug(key)
    desk.register(user, "--name", "only")
    listed = desk.place.at_site("account", "keys", options=("--json",), secrets={"--pin-fd": PIN})
    (only,) = json.loads(listed.output)["keys"]
    refused = desk.place.at_site("account", "remove-key", options=(str(only["id"]),), secrets={"--pin-fd": PIN})
    assert refused.code == 5
    assert "last-factor" in refused.output
    sure = ("--confirm-last", str(only["id"]))
    assert desk.place.at_site("account", "remove-key", options=sure, secrets={"--pin-fd": PIN}).code == 0


@pytest.mark.slow_under_emulation
def test_registering_needs_the_strongest_thing_one_has(desk: Desk, make_key: Any) -> None:
    user, first, second = desk.person(), make_key(), make_key()
    totp = desk.totp
    desk.plug(first)
    assert desk.register(user).code == 0
    first.unplug()
    desk.plug(second)
    code = pyotp.TOTP(totp).at(datetime.now(UTC))
    weak = desk.place.at_site(
        "key", "register", options=("--user", user), secrets={"--password-fd": PASSWORD, "--code-fd": code}
    )
    assert weak.code == 5
    assert "step-up" in weak.output


@pytest.mark.slow_under_emulation
def test_a_recovery_code_on_the_day_without_key_and_phone(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key()
    desk.plug(key)
    codes = json.loads(desk.register(user, "--json").output)["recovery_codes"]
    key.unplug()
    secrets = {"--password-fd": PASSWORD, "--recovery-code-fd": codes[0]}
    assert desk.place.sign_in("--user", user, secrets=secrets).code == 0
    again = desk.place.sign_in("--user", user, secrets=secrets)
    assert again.code in (5, 6)


@pytest.mark.slow_under_emulation
def test_a_wrong_enrolment_code_and_one_that_was_used(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key()
    desk.plug(key)
    code = desk.code(user)
    options = ("--by-code", "--user", user, "--json")

    def register(code: str) -> Ran:
        secrets = {"--enrolment-code-fd": code, "--new-pin-fd": PIN, "--pin-fd": PIN}
        return desk.place.at_site("key", "register", options=options, secrets=secrets)

    wrong = register("AAAA-BBBB-CCCC-DDDD-EEEE-FFFF")
    assert json.loads(wrong.output)["error"]["reason"] == "enrolment-code-wrong"
    assert wrong.code == 5
    assert register(code).code == 0
    assert json.loads(register(code).output)["error"]["reason"] == "enrolment-code-wrong"


def test_a_key_pulled_in_the_middle_and_plugged_in_again(desk: Desk, make_key: Any) -> None:
    user, key = desk.person(), make_key()
    desk.plug(key)
    assert desk.register(user).code == 0
    key.person.mode = Touch.NEVER

    def pull() -> None:
        assert key.person.wait_until_asked(20)
        key.unplug()

    puller = threading.Thread(target=pull)
    puller.start()
    pulled = desk.place.sign_in("--key", "any", "--wait", "1", secrets={"--pin-fd": PIN})
    puller.join()
    assert pulled.code == 3
    key.person.mode = Touch.ALWAYS
    desk.plug(key)
    assert desk.place.sign_in(secrets={"--pin-fd": PIN}).code == 0


@pytest.mark.slow_under_emulation
def test_status_and_watch_know_keys(desk: Desk, make_key: Any) -> None:
    key = make_key()
    desk.plug(key, "seen")
    (found,) = [item for item in desk.place.must_json("status")["keys"] if item["serial"] == key.serial]
    assert (found["name"], found["usable"], found["used_by"]) == ("seen", True, "")
    assert key.serial in desk.place.must("key", "list").output
    assert os.path.exists(found["path"])
