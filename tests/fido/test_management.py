"""PIN, credentials, fingerprints, settings and reset of a key."""

from __future__ import annotations

from typing import Any

import pytest

from tokenbridge.errors import (
    KeyFull,
    KeyNotTouched,
    KeyPinMissing,
    KeyPinUnfit,
    KeyPinWrong,
    KeyResetTooLate,
    KeyStatus,
    KeyUnsupported,
    KeyUvFailed,
    NoCredential,
)
from tokenbridge.fido import credentials, fingerprints, settings
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.pin import Permission, Token
from tokenbridge.interaction import Secret
from tokenbridge.rig.virtual_key import Touch

from .conftest import KeyBench, Site, pin


def token(bench: KeyBench, permission: Permission) -> Token:
    rp_id = "portal.example.org" if permission is Permission.GET_ASSERTION else None
    return key_pin.token(bench.session, pin(), permission, rp_id)


# --- PIN ---------------------------------------------------------------------------------------------------------


def test_a_first_pin(bench: KeyBench) -> None:
    assert not bench.session.facts.has_pin
    bench.set_pin()
    assert bench.session.facts.has_pin
    assert key_pin.tries(bench.session).left == 8


@pytest.mark.parametrize("new", [b"123", b"x" * 64, b"\xff" * 4, b"1\x0023"])
def test_a_pin_that_no_key_takes_is_not_sent(bench: KeyBench, new: bytes) -> None:
    assert bench.session.facts
    bench.heard()
    with pytest.raises(KeyPinUnfit):
        key_pin.set_first(bench.session, pin(new))
    assert bench.heard() == []


def test_a_new_pin_has_the_length_that_the_key_wants(make_bench: Any) -> None:
    bench = make_bench(min_pin_length=6)
    with pytest.raises(KeyPinUnfit, match="too short"):
        key_pin.set_first(bench.session, pin(b"12345"))
    key_pin.set_first(bench.session, pin(b"123456"))


def test_changing_a_pin(pin_bench: KeyBench) -> None:
    key_pin.change(pin_bench.session, pin(), pin(b"new pin"))
    with pytest.raises(KeyPinWrong):
        token(pin_bench, Permission.GET_ASSERTION)
    key_pin.token(pin_bench.session, pin(b"new pin"), Permission.GET_ASSERTION, "x.example.org")


def test_changing_with_a_wrong_old_pin_costs_one_try(pin_bench: KeyBench) -> None:
    with pytest.raises(KeyPinWrong) as caught:
        key_pin.change(pin_bench.session, pin(b"0000"), pin(b"new pin"))
    assert caught.value.tries_left == 7


def test_a_pin_set_behind_our_back_is_noticed(bench: KeyBench, site: Site) -> None:
    """Another program gave the key a PIN after it was looked at."""
    site.register(bench)
    assert not bench.session.facts.has_pin
    other = KeyBench(bench.key)
    other.set_pin()
    other.session.close()
    bench.replug()
    assert bench.session.facts.has_pin


def test_typed_pins_are_put_into_form_c() -> None:
    typed = Secret.from_text("café1234".encode().decode())
    decomposed = Secret.from_text("cafe\u0301")
    assert key_pin.normalised(decomposed).reveal().decode() == "caf\u00e9"
    assert not decomposed
    assert key_pin.normalised(typed).reveal().decode() == "café1234"


def test_tokens_and_pins_are_wiped(pin_bench: KeyBench) -> None:
    got = token(pin_bench, Permission.GET_ASSERTION)
    assert len(got.secret) == 32
    got.wipe()
    assert len(got.secret) == 0
    assert "***" in repr(got.secret)


# --- credentials -------------------------------------------------------------------------------------------------


def test_an_empty_key(pin_bench: KeyBench) -> None:
    found = credentials.stored(pin_bench.session, token(pin_bench, Permission.CREDENTIAL_MANAGEMENT))
    assert found == credentials.Stored(credentials=(), rooms_left=50)


def test_listing_and_deleting_with_one_token(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench, user=b"ada", exclude=False)
    site.register(pin_bench, user=b"grace", exclude=False)
    Site("example.org").register(KeyBenchAt(pin_bench, "https://example.org"), user=b"joan")
    pin_bench.heard()
    got = token(pin_bench, Permission.CREDENTIAL_MANAGEMENT)
    found = credentials.stored(pin_bench.session, got)
    assert {(item.rp_id, item.account) for item in found.credentials} == {
        ("portal.example.org", "ada"),
        ("portal.example.org", "grace"),
        ("example.org", "joan"),
    }
    grace = next(item for item in found.credentials if item.account == "grace")
    credentials.delete(pin_bench.session, got, credentials.matching(found, grace.id.hex()[:10]).id)
    assert pin_bench.heard().count("getPinToken") == 1
    with pytest.raises(NoCredential):
        credentials.delete(pin_bench.session, got, grace.id)
    assert pin_bench.session.facts.rooms_left == 48


def test_a_prefix_that_fits_none_or_several(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench, user=b"ada", exclude=False)
    site.register(pin_bench, user=b"grace", exclude=False)
    found = credentials.stored(pin_bench.session, token(pin_bench, Permission.CREDENTIAL_MANAGEMENT))
    for prefix in ("zz", ""):
        with pytest.raises(NoCredential):
            credentials.matching(found, prefix)


def test_keys_that_cannot_list(make_bench: Any) -> None:
    bench = make_bench(with_pin=True, credential_management=False)
    got = key_pin.token(bench.session, pin(), Permission.GET_ASSERTION, "example.org")
    with pytest.raises(KeyUnsupported):
        credentials.stored(bench.session, got)


# --- fingerprints ------------------------------------------------------------------------------------------------


def test_learning_naming_listing_and_forgetting_a_finger(make_bench: Any) -> None:
    bench = make_bench(with_pin=True, fingerprints=True)
    bench.key.person.poor_samples = 1
    told: list[tuple[int, str]] = []
    got = token(bench, Permission.BIO_ENROLLMENT)
    added = fingerprints.add(bench.session, got, "right index", lambda left, problem: told.append((left, problem)))
    assert told[-1] == (0, "")
    assert any(problem for _, problem in told)
    assert fingerprints.enrolled(bench.session, got) == (added,)
    assert bench.session.facts.has_built_in
    fingerprints.rename(bench.session, got, added.id, "thumb")
    found = fingerprints.enrolled(bench.session, got)
    assert fingerprints.matching(found, "thumb").id == added.id
    with pytest.raises(KeyUvFailed):
        fingerprints.matching(found, "toe")
    fingerprints.delete(bench.session, got, added.id)
    assert fingerprints.enrolled(bench.session, got) == ()


def test_a_finger_that_is_given_up_leaves_nothing_behind(make_bench: Any) -> None:
    bench = make_bench(with_pin=True, fingerprints=True, presence_seconds=0.3)
    bench.key.person.mode = Touch.NEVER
    got = token(bench, Permission.BIO_ENROLLMENT)
    with pytest.raises((KeyNotTouched, KeyUvFailed)):
        fingerprints.add(bench.session, got, "thumb", lambda left, problem: None)
    bench.key.person.mode = Touch.ALWAYS
    assert fingerprints.enrolled(bench.session, got) == ()


def test_a_full_memory_for_fingers(make_bench: Any) -> None:
    bench = make_bench(with_pin=True, fingerprints=True)
    got = token(bench, Permission.BIO_ENROLLMENT)
    for number in range(5):
        fingerprints.add(bench.session, got, f"finger {number}", lambda left, problem: None)
    with pytest.raises(KeyFull):
        fingerprints.add(bench.session, got, "one more", lambda left, problem: None)


def test_a_key_without_sensor(pin_bench: KeyBench) -> None:
    with pytest.raises((KeyUnsupported, KeyStatus)):
        fingerprints.enrolled(pin_bench.session, token(pin_bench, Permission.GET_ASSERTION))


# --- settings and reset ------------------------------------------------------------------------------------------


def test_always_asking_for_verification(pin_bench: KeyBench) -> None:
    got = token(pin_bench, Permission.CONFIGURATION)
    assert settings.set_always_verify(pin_bench.session, got, on=True)
    assert pin_bench.session.facts.always_uv
    assert not settings.set_always_verify(pin_bench.session, got, on=True)
    assert settings.set_always_verify(pin_bench.session, token(pin_bench, Permission.CONFIGURATION), on=False)
    assert not pin_bench.session.facts.always_uv


def test_a_longer_least_pin_and_a_forced_change(pin_bench: KeyBench) -> None:
    settings.set_min_pin_length(pin_bench.session, token(pin_bench, Permission.CONFIGURATION), 8, force=True)
    facts = pin_bench.session.facts
    assert (facts.min_pin_length, facts.force_pin_change) == (8, True)
    key_pin.change(pin_bench.session, pin(), pin(b"12345678"))
    assert not pin_bench.session.facts.force_pin_change


def test_a_shorter_least_pin_is_refused(pin_bench: KeyBench) -> None:
    settings.set_min_pin_length(pin_bench.session, token(pin_bench, Permission.CONFIGURATION), 6)
    key_pin.change(pin_bench.session, pin(), pin(b"123456"))
    got = key_pin.token(pin_bench.session, pin(b"123456"), Permission.CONFIGURATION)
    with pytest.raises(KeyPinUnfit):
        settings.set_min_pin_length(pin_bench.session, got, 4)


def test_keys_without_settings(make_bench: Any) -> None:
    bench = make_bench(config=False)
    with pytest.raises(KeyUnsupported):
        settings.set_always_verify(bench.session, None, on=True)
    with pytest.raises(KeyUnsupported):
        settings.set_min_pin_length(bench.session, None, 6)


def test_a_reset_erases_everything(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    pin_bench.replug()
    settings.reset(pin_bench.session)
    assert not pin_bench.session.facts.has_pin
    with pytest.raises(NoCredential):
        site.sign_in(pin_bench)


def test_a_reset_that_comes_too_late(make_bench: Any, site: Site) -> None:
    bench = make_bench(reset_seconds=0.0)
    site.register(bench)
    with pytest.raises(KeyResetTooLate):
        settings.reset(bench.session)
    site.sign_in(bench)


def test_selecting_a_key_by_touch(bench: KeyBench) -> None:
    settings.select(bench.session)
    assert bench.heard()[-1] == "selection"


def test_selecting_an_older_key(make_bench: Any) -> None:
    bench = make_bench(with_pin=True)
    facts = bench.session.facts
    object.__setattr__(facts, "versions", ("FIDO_2_0",))
    settings.select(bench.session)
    assert bench.heard()[-1] == "makeCredential"


def test_a_key_that_wants_a_pin_for_everything(bench: KeyBench) -> None:
    with pytest.raises(KeyPinMissing):
        token(bench, Permission.CREDENTIAL_MANAGEMENT)


class KeyBenchAt:
    """The same key, asked by another site."""

    def __init__(self, bench: KeyBench, origin: str) -> None:
        self.session = bench.session
        self.origin = origin
