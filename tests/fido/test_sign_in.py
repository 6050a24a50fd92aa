"""Signing in with a key: the fewest commands, verified by a relying party that is not ours."""

from __future__ import annotations

from typing import Any

import pytest

from tokenbridge.authenticator.profile import PinProtocol
from tokenbridge.errors import (
    Cancelled,
    KeyNotTouched,
    KeyPinBlocked,
    KeyPinMissing,
    KeyPinMustChange,
    KeyPinPaused,
    KeyPinUnfit,
    KeyPinWrong,
    KeyRefused,
    KeyUnsupported,
    KeyUvBlocked,
    KeyUvFailed,
    NoCredential,
    TimedOut,
)
from tokenbridge.fido import fingerprints, settings
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.pin import Permission
from tokenbridge.rig.virtual_key import Touch

from .conftest import KeyBench, Site, pin


def test_a_known_key_without_pin_costs_one_command(bench: KeyBench, site: Site) -> None:
    site.register(bench)
    assert not bench.session.facts.can_verify
    bench.heard()
    site.sign_in(bench)
    assert bench.heard() == ["getAssertion"]


def test_a_known_key_with_pin_costs_three(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    assert pin_bench.session.facts.has_pin
    pin_bench.heard()
    site.sign_in(pin_bench, need="required")
    assert pin_bench.heard() == ["getKeyAgreement", "getPinToken", "getAssertion"]


def test_a_known_key_with_fingerprints_costs_one(make_bench: Any, site: Site) -> None:
    bench = finger_bench(make_bench)
    site.register(bench)
    assert bench.session.facts.has_built_in
    bench.heard()
    site.sign_in(bench, need="required")
    assert bench.heard() == ["getAssertion"]


def test_a_named_credential_costs_no_more(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench, resident="discouraged")
    assert pin_bench.session.facts.has_pin
    pin_bench.heard()
    site.sign_in(pin_bench, named=True)
    assert pin_bench.heard() == ["getKeyAgreement", "getPinToken", "getAssertion"]


def test_a_new_key_is_asked_once_what_it_is(bench: KeyBench, site: Site) -> None:
    site.register(bench)
    bench.replug()
    bench.heard()
    site.sign_in(bench)
    site.sign_in(bench)
    assert bench.heard() == ["getInfo", "getAssertion", "getAssertion"]


@pytest.mark.parametrize("algorithm", [-7, -8, -35, -257])
@pytest.mark.parametrize("protocols", [(PinProtocol.ONE,), (PinProtocol.TWO,), (PinProtocol.TWO, PinProtocol.ONE)])
def test_every_algorithm_and_pin_protocol(make_bench: Any, site: Site, algorithm: int, protocols: Any) -> None:
    bench = make_bench(with_pin=True, pin_protocols=protocols)
    site.register(bench, algorithms=(algorithm,))
    (signed,) = site.sign_in(bench, need="required")
    assert site.credentials[0].public_key[3] == algorithm
    assert signed.response["response"]["userHandle"]


def test_several_accounts_each_give_an_assertion(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench, user=b"ada", exclude=False)
    site.register(pin_bench, user=b"grace", exclude=False)
    found = site.sign_in(pin_bench)
    assert {item.account for item in found} == {"ada", "grace"}


def test_names_of_accounts_are_not_told_without_verification(bench: KeyBench, site: Site) -> None:
    site.register(bench, user=b"ada", exclude=False)
    site.register(bench, user=b"grace", exclude=False)
    assert {item.account for item in site.sign_in(bench)} == {""}


def test_a_list_longer_than_the_key_takes_is_narrowed_without_a_touch(make_bench: Any, site: Site) -> None:
    bench = make_bench(with_pin=True, max_credentials_in_list=3)
    others = make_bench(with_pin=True)
    for number in range(7):
        site.register(others, user=b"u%d" % number, exclude=False, resident="discouraged")
    site.register(bench, exclude=False, resident="discouraged")
    assert bench.session.facts
    bench.heard()
    before = bench.touches
    site.sign_in(bench, named=True)
    assert bench.heard()[-4:] == ["getAssertion"] * 4
    assert bench.touches - before <= 1


def test_a_list_without_this_key(bench: KeyBench, make_bench: Any, site: Site) -> None:
    site.register(make_bench())
    with pytest.raises(NoCredential):
        site.sign_in(bench, named=True)


def test_a_key_that_was_never_registered(bench: KeyBench, site: Site) -> None:
    with pytest.raises(NoCredential):
        site.sign_in(bench)


def test_a_credential_of_another_site_is_not_used(bench: KeyBench, site: Site) -> None:
    Site("example.org").register(bench)
    with pytest.raises(NoCredential):
        site.sign_in(bench)


def test_a_wrong_pin_costs_one_try_and_says_how_many_are_left(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    with pytest.raises(KeyPinWrong) as caught:
        site.sign_in(pin_bench, typed=b"0000")
    assert caught.value.tries_left == 7
    assert key_pin.tries(pin_bench.session).left == 7
    site.sign_in(pin_bench)
    assert key_pin.tries(pin_bench.session).left == 8


@pytest.mark.parametrize("typed", [b"", b"123", b"x" * 64, b"\xff\xfe\xfd\xfc", b"12\x0034", "äö".encode()])
def test_what_cannot_be_a_pin_is_never_sent(pin_bench: KeyBench, site: Site, typed: bytes) -> None:
    site.register(pin_bench)
    assert pin_bench.session.facts
    pin_bench.heard()
    with pytest.raises(KeyPinUnfit):
        site.sign_in(pin_bench, typed=typed)
    assert pin_bench.heard() == []
    assert key_pin.tries(pin_bench.session).left == 8


def test_three_wrong_pins_pause_the_key_until_it_is_plugged_in_again(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    for _ in range(2):
        with pytest.raises(KeyPinWrong):
            site.sign_in(pin_bench, typed=b"0000")
    with pytest.raises(KeyPinPaused):
        site.sign_in(pin_bench, typed=b"0000")
    assert key_pin.tries(pin_bench.session) == key_pin.Tries(left=5, paused=True)
    with pytest.raises(KeyPinPaused):
        site.sign_in(pin_bench)
    assert key_pin.tries(pin_bench.session).left == 5
    pin_bench.replug()
    site.sign_in(pin_bench)


def test_a_blocked_pin(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    for left in (7, 6, 5, 4, 3, 2, 1, 0):
        with pytest.raises((KeyPinWrong, KeyPinPaused, KeyPinBlocked)):
            site.sign_in(pin_bench, typed=b"0000")
        assert key_pin.tries(pin_bench.session).left == left
        pin_bench.replug()
    with pytest.raises(KeyPinBlocked):
        site.sign_in(pin_bench)


def test_verification_that_is_required_of_a_key_without_pin(bench: KeyBench, site: Site) -> None:
    site.register(bench)
    with pytest.raises(KeyPinMissing):
        site.sign_in(bench, need="required")


def test_verification_that_a_key_can_never_do(make_bench: Any, site: Site) -> None:
    bench = make_bench(client_pin=False)
    site.register(bench)
    with pytest.raises(KeyUnsupported):
        site.sign_in(bench, need="required")


def test_a_pin_that_must_be_changed_first(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    force_new_pin(pin_bench)
    with pytest.raises(KeyPinMustChange):
        site.sign_in(pin_bench)


def test_an_unknown_finger_and_then_the_right_one(make_bench: Any, site: Site) -> None:
    bench = finger_bench(make_bench)
    site.register(bench)
    bench.key.person.finger = "left little"
    with pytest.raises((KeyUvFailed, KeyUvBlocked)):
        site.sign_in(bench, need="required")
    bench.key.person.finger = "right index"
    site.sign_in(bench, need="required")


def test_nobody_touches(make_bench: Any, site: Site) -> None:
    bench = make_bench(presence_seconds=0.4)
    site.register(bench)
    bench.key.person.mode = Touch.NEVER
    with pytest.raises(KeyNotTouched):
        site.sign_in(bench)
    assert bench.touches


def test_declined_on_the_key(bench: KeyBench, site: Site) -> None:
    site.register(bench)
    bench.key.person.mode = Touch.DENY
    with pytest.raises(KeyRefused):
        site.sign_in(bench)


def test_cancelling_stops_the_key_from_blinking(bench: KeyBench, site: Site) -> None:
    site.register(bench)
    bench.key.person.mode = Touch.NEVER
    bench.cancel.cancel()
    with pytest.raises(Cancelled):
        site.sign_in(bench)
    assert bench.key.person.wait_until_idle(2)


def test_the_deadline_of_a_job_ends_a_wait_for_a_touch(make_bench: Any, site: Site) -> None:
    bench = make_bench()
    site.register(bench)
    bench.key.person.mode = Touch.NEVER
    bench.cancel.deadline = 0
    with pytest.raises(TimedOut):
        site.sign_in(bench)
    assert bench.key.person.wait_until_idle(2)
    bench.replug()
    bench.key.person.mode = Touch.ALWAYS
    site.sign_in(bench)


def test_a_u2f_key(make_bench: Any, site: Site) -> None:
    """A key of old: its channel says that it speaks no CBOR."""
    bench = make_bench()
    bench.session._channel._capabilities &= ~0x04  # what such a key would have said
    bench.key.person.mode = Touch.LATE
    bench.key.person.seconds = 0.3
    made = site.register(bench, need="discouraged", resident="discouraged")
    assert not made.discoverable
    site.sign_in(bench, need="discouraged", named=True)
    assert set(bench.heard()) == {"MSG"}
    with pytest.raises(KeyUnsupported):
        site.sign_in(bench, need="required", named=True)
    with pytest.raises(NoCredential):
        site.sign_in(bench, need="discouraged")


def finger_bench(make_bench: Any) -> KeyBench:
    """A key that knows a finger."""
    bench: KeyBench = make_bench(with_pin=True, fingerprints=True)
    token = key_pin.token(bench.session, pin(), Permission.BIO_ENROLLMENT)
    fingerprints.add(bench.session, token, "right index", lambda left, problem: None)
    return bench


def force_new_pin(bench: KeyBench) -> None:
    token = key_pin.token(bench.session, pin(), Permission.CONFIGURATION)
    settings.set_min_pin_length(bench.session, token, None, force=True)
