"""A key's own settings and its reset (authenticatorConfig, authenticatorReset; CTAP 2.1 sections 6.11 and 6.6)."""

from __future__ import annotations

from collections.abc import Sequence

from fido2.ctap import CtapError
from fido2.ctap2.config import Config

from tokenbridge.errors import KeyResetTooLate, KeyUnsupported
from tokenbridge.fido import u2f
from tokenbridge.fido.pin import Token
from tokenbridge.fido.session import KeySession


def set_always_verify(session: KeySession, token: Token | None, *, on: bool) -> bool:
    """Whether the key asks for PIN or finger whatever a site says (toggleAlwaysUv). False: it was so already."""
    if "alwaysUv" not in session.facts.options:
        raise KeyUnsupported("This security key can't be told to always check PIN or finger.")
    if session.facts.always_uv is on:
        return False
    with session.calling():
        _config(session, token).toggle_always_uv()
    session.forget()
    return True


def set_min_pin_length(
    session: KeySession, token: Token | None, length: int | None, *, rp_ids: Sequence[str] = (), force: bool = False
) -> None:
    """Raise the least PIN length (it never goes down), name sites that may ask for it, or force a new PIN."""
    if session.facts.options.get("setMinPINLength") is not True:
        raise KeyUnsupported("This security key has a fixed least PIN length.")
    with session.calling():
        _config(session, token).set_min_pin_length(length, list(rp_ids) or None, force)
    session.forget()


def reset(session: KeySession) -> None:
    """Erase credentials, PIN and fingerprints. Waits for a touch. Raises `KeyResetTooLate`."""
    if not session.facts.ctap2:
        raise KeyUnsupported("This security key can't be reset.")
    with session.calling() as ctap:
        try:
            ctap.reset()
        except CtapError as err:
            if err.code == CtapError.ERR.NOT_ALLOWED:
                raise KeyResetTooLate() from err
            raise
    session.forget()


def select(session: KeySession) -> None:
    """Return when this key is touched (authenticatorSelection, section 6.9), whichever version it speaks."""
    facts = session.facts
    if not facts.ctap2:
        u2f.select(session)
        return
    with session.calling() as ctap:
        if "FIDO_2_1" in facts.versions:
            ctap.selection()
            return
        try:
            # Section 6.5.5.7.1's way of old: an empty pinUvAuthParam makes a key wait for a touch, then refuse.
            ctap.make_credential(
                b"\0" * 32,
                {"id": "select.invalid", "name": "select"},
                {"id": b"select", "name": "select"},
                [{"type": "public-key", "alg": -7}],
                pin_uv_param=b"",
                pin_uv_protocol=facts.pin_protocols[0] if facts.pin_protocols else None,
            )
        except CtapError as err:
            if err.code not in (CtapError.ERR.PIN_NOT_SET, CtapError.ERR.PIN_INVALID, CtapError.ERR.PIN_AUTH_INVALID):
                raise


def _config(session: KeySession, token: Token | None) -> Config:
    with session.calling() as ctap:
        if not Config.is_supported(ctap.info):
            raise KeyUnsupported("This security key has no settings.")
        if token is None:
            return Config(ctap)
        return Config(ctap, token.protocol, bytes(token.secret.reveal()))
