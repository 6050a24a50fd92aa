"""Whether a key must find out who holds it before it signs, and how: decided from what it says about itself."""

from __future__ import annotations

from tokenbridge.errors import KeyPinMissing, KeyPinMustChange, KeyUnsupported
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.request import Need


def to_sign_in(facts: KeyFacts, need: Need) -> Verification:
    """How to verify for an assertion. Raises `KeyPinMissing`, `KeyPinMustChange`, `KeyUnsupported`."""
    wanted = need is Need.REQUIRED or (need is Need.PREFERRED and facts.can_verify) or facts.always_uv
    return _how(facts) if wanted else Verification.NONE


def to_register(facts: KeyFacts, need: Need) -> Verification:
    """How to verify for a new credential; keys with a PIN mostly want it even when the site does not."""
    without = facts.options.get("makeCredUvNotRqd") is True
    wanted = need is not Need.DISCOURAGED or facts.always_uv or not without
    if need is Need.REQUIRED or facts.always_uv:
        return _how(facts)
    return _how(facts) if wanted and facts.can_verify else Verification.NONE


def to_manage(facts: KeyFacts) -> Verification:
    """By PIN: not every key lets a finger stand for managing it (uvBioEnroll, uvAcfg; section 6.4)."""
    if facts.has_pin and not facts.force_pin_change:
        return Verification.PIN
    return _how(facts)


def _how(facts: KeyFacts) -> Verification:
    if facts.force_pin_change and facts.has_pin:
        raise KeyPinMustChange()
    if facts.has_built_in:
        return Verification.BUILT_IN
    if facts.has_pin:
        return Verification.PIN
    if facts.takes_pin:
        raise KeyPinMissing()
    raise KeyUnsupported(
        "The site wants the security key to check your PIN or finger, and this one can't.", next_step="Use another key."
    )
