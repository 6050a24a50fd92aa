"""How methods and assurance are said to people, in one place. Only words: nothing here decides anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from tokenbridge.rp.assurance import AAL, Assurance
from tokenbridge.rp.proof import Method

NAMES: Final[dict[Method, str]] = {
    Method.CARD: "card",
    Method.KEY: "security key",
    Method.PASSWORD: "password",
    Method.TOTP: "authenticator-app code",
    Method.NUMBER_MATCH: "number matching in the app",
    Method.SMS: "text message",
    Method.WHATSAPP: "WhatsApp message",
    Method.VOICE: "voice call",
    Method.RECOVERY: "recovery code",
    Method.APP_PASSWORD: "app password",
}

_LEVELS: Final = {
    AAL.AAL1: "one factor",
    AAL.AAL2: "two factors",
    AAL.AAL3: "a card or key with its PIN or fingerprint",
}


def in_words(aal: AAL, *more: str) -> str:
    """What is proved at a level, in plain words and by its name; `more` stands beside the name."""
    name = ", ".join((aal.name, *more))
    return f"{_LEVELS[aal]} ({name})" if aal in _LEVELS else "nothing"


def listing(methods: Sequence[Method], joint: str) -> str:
    """`a, b or c` in words."""
    return _joined([NAMES[method] for method in methods], joint)


def day(when: dt.date) -> str:
    """A date as people in hospitals write it: `3 December 2026`."""
    return f"{when.day} {when:%B %Y}"


def describe(assurance: Assurance) -> str:
    """What was shown, for example `card signature, PIN enforced by the issuer`."""
    return _joined([_shown(method, assurance) for method in assurance.methods], "and") or "nothing"


def _shown(method: Method, assurance: Assurance) -> str:
    verified = method in assurance.verified_by
    match method:
        case Method.CARD:
            return "card signature, PIN enforced by the issuer" if verified else "card signature, no PIN vouched for"
        case Method.KEY:
            return f"security-key signature, {_check(assurance) if verified else 'touched, no PIN'}"
        case _:
            return NAMES[method]


def _check(assurance: Assurance) -> str:
    return "fingerprint checked by the key" if "fpt" in assurance.amr else "PIN checked by the key"


def _joined(words: Sequence[str], joint: str) -> str:
    *most, last = words or ("",)
    return f"{', '.join(most)} {joint} {last}" if most else last
