"""How many CTAP commands a sign-in takes: the bridge's client beside fido2-assert, same key, same case. Prints both."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from typing import Any

import pytest

from tokenbridge.fido import sign_in, verification
from tokenbridge.fido.request import AssertionRequest, Need, assertion_request
from tokenbridge.interaction import Secret

pytestmark = pytest.mark.foreign

RP_ID, ORIGIN = "site.example", "https://site.example"
CHANNEL = {"INIT", "CANCEL"}
"""Transport, not CTAP commands."""


def _request(credential_id: str, need: Need) -> AssertionRequest:
    options = {
        "challenge": base64.urlsafe_b64encode(hashlib.sha256(b"nonce").digest()).rstrip(b"=").decode(),
        "rpId": RP_ID,
        "allowCredentials": [{"type": "public-key", "id": _url(credential_id)}],
        "userVerification": str(need),
    }
    return assertion_request(options, ORIGIN)


def _url(text: str) -> str:
    return base64.urlsafe_b64encode(base64.b64decode(text)).rstrip(b"=").decode()


def _count(counts: Counter[str]) -> Counter[str]:
    return Counter({name: number for name, number in counts.items() if name not in CHANNEL})


@pytest.mark.parametrize(("with_pin", "minimum"), [(False, 1), (True, 3)], ids=["touch", "pin"])
def test_a_known_key_is_sent_the_minimum(
    with_pin: bool,
    minimum: int,
    plug: Any,
    tool: Any,
    open_key: Any,
    make_credential: Any,
    verify_credential: Any,
    sign_in_by_tool: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CTAP 2.1 section 6.2: getAssertion alone; with a PIN getKeyAgreement and getPinToken come before (6.5.5.7)."""
    key, pin, flags = plug(), "271828", ()
    if with_pin:
        tool("fido2-token", "-S", key.path, answers=(pin, pin))
        flags = ("-t", "pin=true")
    answers = (pin,) if with_pin else ()
    made = verify_credential(make_credential(key, *(("-v",) if with_pin else ()), rp_id=RP_ID, answers=answers))

    key.virtual.counts.clear()
    sign_in_by_tool(key, made, *flags, answers=answers)
    theirs = _count(key.virtual.counts)

    with open_key(key) as session:
        assert session.facts.versions  # known: the bridge asks a key about itself when it is plugged in
        key.virtual.counts.clear()
        request = _request(made.credential_id, Need.REQUIRED if with_pin else Need.DISCOURAGED)
        how = verification.to_sign_in(session.facts, request.verification)
        sign_in.sign(session, request, how, Secret(pin.encode()) if with_pin else None)
    ours = _count(key.virtual.counts)

    with capsys.disabled():
        print(f"\n  CTAP commands of a sign-in by {'PIN' if with_pin else 'touch'}, the key being known:")
        print(f"    tokenbridge {_shown(ours)}\n    fido2-assert {_shown(theirs)}")
    assert ours.total() == minimum
    assert ours.total() <= theirs.total()


def _shown(counts: Counter[str]) -> str:
    return f"{counts.total()} ({', '.join(f'{number} {name}' for name, number in sorted(counts.items()))})"
