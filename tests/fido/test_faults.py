"""Keys that are pulled, lie or fall silent at every point: a typed error, no PIN try lost, the next ceremony works."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from fido2 import cbor

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.errors import BadKeyData, DeviceError, DeviceRemoved, LinkFailed, TimedOut, TokenbridgeError
from tokenbridge.fido import credentials, fingerprints, settings
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.pin import Permission
from tokenbridge.rig.virtual_key import KeyAction, KeyFault
from tokenbridge.wire.ctaphid import HidError

from .conftest import KeyBench, Site, pin

Ceremony = Callable[[KeyBench, Site], Any]


def _sign_in(bench: KeyBench, site: Site) -> None:
    # By name: a registration that was cut off may have left a credential on the key that no site knows.
    site.sign_in(bench, need="required", named=True)


def _register(bench: KeyBench, site: Site) -> None:
    site.register(bench, user=b"grace", exclude=False)


def _list(bench: KeyBench, _: Site) -> None:
    token = key_pin.token(bench.session, pin(), Permission.CREDENTIAL_MANAGEMENT)
    credentials.stored(bench.session, token)


def _change_pin(bench: KeyBench, _: Site) -> None:
    key_pin.change(bench.session, pin(), pin())


def _look(bench: KeyBench, _: Site) -> None:
    bench.session.forget()
    assert bench.session.facts.has_pin
    key_pin.tries(bench.session)


def _configure(bench: KeyBench, _: Site) -> None:
    on = not bench.session.facts.always_uv
    token = key_pin.token(bench.session, pin(), Permission.CONFIGURATION)
    settings.set_always_verify(bench.session, token, on=on)


def _delete(bench: KeyBench, site: Site) -> None:
    """One that was made for this alone: a deletion that was cut off may have been done."""
    site.register(bench, user=os.urandom(8).hex().encode(), exclude=False)
    made = site.credentials.pop().credential_id
    token = key_pin.token(bench.session, pin(), Permission.CREDENTIAL_MANAGEMENT)
    credentials.delete(bench.session, token, made)


CEREMONIES: dict[str, Ceremony] = {
    "sign-in": _sign_in,
    "register": _register,
    "list": _list,
    "change-pin": _change_pin,
    "look": _look,
    "configure": _configure,
    "delete": _delete,
}


@pytest.fixture
def ready(pin_bench: KeyBench, site: Site) -> KeyBench:
    """A key with PIN and one credential."""
    site.register(pin_bench)
    assert pin_bench.session.facts.has_pin
    return pin_bench


@pytest.mark.parametrize("action", [KeyAction.PULL_IN, KeyAction.PULL_OUT])
@pytest.mark.parametrize("name", CEREMONIES)
def test_pulled_after_every_packet(ready: KeyBench, site: Site, name: str, action: KeyAction) -> None:
    ready.key.faults.arm()
    CEREMONIES[name](ready, site)
    plan = ready.key.faults
    packets = plan.packets_in if action is KeyAction.PULL_IN else plan.packets_out
    assert packets > 1
    for at in range(1, packets + 1):
        ready.key.faults.arm(KeyFault(action=action, at=at))
        failed = _attempt(CEREMONIES[name], ready, site)
        passed = plan.packets_in if action is KeyAction.PULL_IN else plan.packets_out
        # Keepalives come as it happens: a run with fewer of them ends before, or with, the packet that was meant.
        assert isinstance(failed, DeviceRemoved) or (failed is None and passed <= at)
        ready.key.faults.disarm()
        ready.replug()
        assert key_pin.tries(ready.session).left == 8
    _sign_in(ready, site)


@pytest.mark.parametrize("action", [KeyAction.PULL_IN, KeyAction.PULL_OUT])
def test_pulled_while_a_finger_is_learnt(make_bench: Any, action: KeyAction) -> None:
    bench: KeyBench = make_bench(with_pin=True, fingerprints=True)
    bench.key.faults.arm()
    _learn(bench)
    packets = bench.key.faults.packets_in
    for at in range(1, packets + 1):
        _forget_all(bench)
        bench.key.faults.arm(KeyFault(action=action, at=at))
        failed = _attempt(lambda its, _: _learn(its), bench, Site())
        assert failed is None or isinstance(failed, DeviceRemoved)
        bench.key.faults.disarm()
        bench.replug()
        assert key_pin.tries(bench.session).left == 8
    _forget_all(bench)
    _learn(bench)


@pytest.mark.parametrize("action", [KeyAction.PULL_IN, KeyAction.PULL_OUT])
def test_pulled_while_it_is_reset(ready: KeyBench, site: Site, action: KeyAction) -> None:
    """Either nothing happened, or everything is erased; never half."""
    for at in (1, 2, 3, 4):
        ready.replug()
        assert ready.session.facts
        ready.key.faults.arm(KeyFault(action=action, at=at))
        failed = _attempt(lambda bench, _: settings.reset(bench.session), ready, site)
        assert failed is None or isinstance(failed, DeviceRemoved)
        ready.key.faults.disarm()
        ready.replug()
        erased = not ready.session.facts.has_pin
        assert bool(ready.key.memory.credentials) is not erased
        if erased:
            ready.set_pin()
            site.register(ready)


def _learn(bench: KeyBench) -> None:
    token = key_pin.token(bench.session, pin(), Permission.BIO_ENROLLMENT)
    fingerprints.add(bench.session, token, "thumb", lambda left, problem: None)


def _forget_all(bench: KeyBench) -> None:
    token = key_pin.token(bench.session, pin(), Permission.BIO_ENROLLMENT)
    for finger in fingerprints.enrolled(bench.session, token):
        fingerprints.delete(bench.session, token, finger.id)


@pytest.mark.parametrize(
    "action",
    [
        KeyAction.WRONG_CHANNEL,
        KeyAction.WRONG_SEQUENCE,
        KeyAction.OVERSIZE,
        KeyAction.SILENCE,
        KeyAction.HALF,
        KeyAction.TRUNCATE,
    ],
)
def test_answers_that_break_the_framing(
    ready: KeyBench, site: Site, action: KeyAction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenbridge.fido.channel.SILENCE_SECONDS", 0.3)
    for at in (1, 2, 3):
        ready.key.faults.arm(KeyFault(action=action, at=at))
        failed = _attempt(_sign_in, ready, site)
        assert isinstance(failed, LinkFailed | BadKeyData), failed
        ready.key.faults.disarm()
        ready.replug()
        assert key_pin.tries(ready.session).left == 8
    _sign_in(ready, site)


def test_a_packet_of_another_channel_in_between_is_passed_over(ready: KeyBench, site: Site) -> None:
    for at in (1, 2, 3):
        ready.key.faults.arm(KeyFault(action=KeyAction.FOREIGN, at=at))
        _sign_in(ready, site)


def test_an_endless_keepalive_ends_with_the_deadline(make_bench: Any, site: Site) -> None:
    bench = make_bench(seconds=1.5)
    bench.key.faults.arm(KeyFault(action=KeyAction.KEEPALIVE, command=CommandByte.GET_INFO))
    with pytest.raises(TimedOut):
        site.sign_in(bench)
    bench.key.faults.disarm()
    bench.replug()
    site.register(bench)
    site.sign_in(bench)


@pytest.mark.parametrize(
    "error", [HidError.INVALID_CHANNEL, HidError.INVALID_SEQ, HidError.OTHER, HidError.MSG_TIMEOUT]
)
def test_errors_of_the_channel(ready: KeyBench, site: Site, error: HidError) -> None:
    ready.key.faults.arm(KeyFault(action=KeyAction.ERROR, error=error))
    with pytest.raises(LinkFailed):
        _sign_in(ready, site)
    ready.key.faults.disarm()
    ready.replug()
    _sign_in(ready, site)


def test_a_busy_key_is_waited_for(ready: KeyBench, site: Site) -> None:
    ready.key.faults.arm(KeyFault(action=KeyAction.ERROR, error=HidError.CHANNEL_BUSY))
    _sign_in(ready, site)


def test_a_key_that_stays_busy_is_told_of(ready: KeyBench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenbridge.fido.channel.BUSY_SECONDS", 0.3)
    ready.key.faults.arm(KeyFault(action=KeyAction.ERROR, error=HidError.CHANNEL_BUSY, repeat=True))
    with pytest.raises(DeviceError, match="busy with another program"):
        _sign_in(ready, site)


BOMB = b"\0" + b"\x81" * 5000 + b"\0"
LIES = {
    "empty": b"",
    "only a status": b"\0",
    "an unknown status": b"\xdf",
    "nested deep": BOMB,
    "a map that ends too soon": b"\0\xa3\x01",
    "a length beyond the end": b"\0\xa1\x01\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    "a count beyond the end": b"\0\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    "an array": b"\0\x81\x01",
    "a number": b"\0\x07",
    "indefinite": b"\0\xbf\x01\x02\xff",
    "bytes after the end": b"\0\xa0\xa0",
    "wrong types": b"\0" + cbor.encode({1: 7, 2: 7, 3: 7, 4: 7}),
    "strings for numbers": b"\0" + cbor.encode({1: "x", 2: "y", 3: "z"}),
    "keys of other kinds": b"\0" + cbor.encode({"a": 1}),
    "no members": b"\0\xa0",
    "text that is no UTF-8": b"\0\xa1\x01\x62\xff\xff",
}
COMMANDS = {
    "getInfo": CommandByte.GET_INFO,
    "clientPIN": CommandByte.CLIENT_PIN,
    "getAssertion": CommandByte.GET_ASSERTION,
    "makeCredential": CommandByte.MAKE_CREDENTIAL,
    "credentialManagement": CommandByte.CREDENTIAL_MANAGEMENT,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_lies_in_answers(ready: KeyBench, site: Site, command: str, lie: str) -> None:
    for ceremony in CEREMONIES.values():
        ready.key.faults.arm(KeyFault(action=KeyAction.ANSWER, command=COMMANDS[command], answer=LIES[lie]))
        _attempt(ceremony, ready, site)
    ready.key.faults.disarm()
    ready.replug()
    assert key_pin.tries(ready.session).left == 8
    _sign_in(ready, site)


def test_a_signature_with_a_credential_that_was_not_asked_for(ready: KeyBench, site: Site) -> None:
    """The site would refuse it, too; it is not even sent."""
    true = _answer_of(ready, site)
    true[1] = {"type": "public-key", "id": b"another" * 5}
    answer = b"\0" + cbor.encode(true)
    ready.key.faults.arm(KeyFault(action=KeyAction.ANSWER, command=CommandByte.GET_ASSERTION, answer=answer))
    with pytest.raises(BadKeyData):
        site.sign_in(ready, named=True)


def test_a_number_of_credentials_that_no_key_has(ready: KeyBench, site: Site) -> None:
    true = _answer_of(ready, site)
    for count in (0, -1, 100000, "7", 2**63):
        answer = b"\0" + cbor.encode({**true, 5: count})
        ready.key.faults.arm(KeyFault(action=KeyAction.ANSWER, command=CommandByte.GET_ASSERTION, answer=answer))
        failed = _attempt(lambda bench, its: its.sign_in(bench), ready, site)
        assert isinstance(failed, TokenbridgeError) or count == 0


def _answer_of(bench: KeyBench, site: Site) -> dict[int, Any]:
    """What the key would answer to an assertion, as a map."""
    with bench.session.calling() as ctap:
        found = ctap.get_assertion("portal.example.org", b"\0" * 32)
    return {1: dict(found.credential), 2: bytes(found.auth_data), 3: found.signature}


def _attempt(ceremony: Ceremony, bench: KeyBench, site: Site) -> TokenbridgeError | None:
    """The error that a ceremony ends with, if any; anything but a `TokenbridgeError` fails the test."""
    try:
        ceremony(bench, site)
    except TokenbridgeError as err:
        return err
    except Exception as err:
        if err.__class__.__module__.startswith(("fido2.server", "cryptography")) or isinstance(err, ValueError):
            return None  # the site refused what the lying key signed
        raise
    return None
