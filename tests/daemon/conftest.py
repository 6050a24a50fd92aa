"""Values that the tests of the bridge share: offers, candidates, verdicts, and async tests with a time limit."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.patience import SECONDS
from tokenbridge.card.base import CardCertificate, CardSnapshot, CertificateFacts, KeyKind, PinReference, Slot
from tokenbridge.daemon.site import Offer, Verdict
from tokenbridge.daemon.steps import Candidate, Wish
from tokenbridge.rig.pki import RigPki

if TYPE_CHECKING:
    from .keyring import Keys

T = TypeVar("T")

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORIGIN = "https://localhost:8443"
NONCE = b64encode(bytes(range(32))).decode()
READER = "Reader 00 00"
OTHER_READER = "Reader 01 00"
WISH = Wish(origin=ORIGIN, program="tokenbridge (42)")
PASSWORD_WISH = replace(WISH, username="ada")
TOKEN = {"unverifiedCertificate": "x", "algorithm": "ES256", "signature": "y", "format": "web-eid:1.0"}

OFFER = Offer(
    transaction="t1",
    name="Test Hospital",
    origin=ORIGIN,
    nonce=NONCE,
    expires_at=NOW + timedelta(minutes=5),
    issuers=(),
    algorithms=("ES256", "ES384", "RS256"),
    takes_card=True,
)
KEY_OPTIONS = {"challenge": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "rpId": "localhost"}
KEY_OFFER = replace(OFFER, key_options=KEY_OPTIONS)
"""As `OFFER`, of a site that takes keys as well."""
ALLOW = Verdict(decision="allow", methods=(), data={"decision": "allow", "sentence": "AAL3"})
DENY = Verdict(decision="deny", methods=(), data={"decision": "deny", "sentence": "no"})
CHALLENGE = Verdict(decision="challenge", methods=("fax", "totp"), data={"decision": "challenge", "sentence": "more"})
KEY_CHALLENGE = Verdict(
    decision="challenge",
    methods=("key", "totp"),
    data={"decision": "challenge", "sentence": "more"},
    key_options=KEY_OPTIONS,
)
UNANSWERABLE = Verdict(decision="challenge", methods=("fax",), data={"decision": "challenge", "sentence": "more"})

CERTIFICATE = CardCertificate(
    slot=Slot.AUTHENTICATION,
    der=b"DER",
    facts=CertificateFacts(
        subject="CN=Ada",
        common_name="Ada",
        issuer="CN=Test SubCA01",
        issuer_der=b"\x30\0",
        serial=1,
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=1),
        key=KeyKind.P_256,
        spki=b"",
        digital_signature=True,
        client_authentication=True,
    ),
)


def candidate(reader: str = READER, tries: int | None = 3, *, on_reader: bool = False) -> Candidate:
    snapshot = CardSnapshot(
        reader=reader,
        atr=b"\x3b\0",
        guid="00" * 15 + "01",
        pin_reference=PinReference.APPLICATION,
        pin_reference_confirmed=True,
        has_discovery=True,
        tries_left=tries,
        certificates={Slot.AUTHENTICATION: CERTIFICATE},
        looked_at=frozenset({Slot.AUTHENTICATION}),
        from_memory=False,
        on_reader=on_reader,
    )
    return Candidate(snapshot=snapshot, certificate=CERTIFICATE)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run an async test; it may not hang."""

    async def limited() -> T:
        async with asyncio.timeout(SECONDS):
            return await work

    return asyncio.run(limited())


@pytest.fixture(scope="session")
def pki() -> RigPki:
    return RigPki.create(now=datetime.now(UTC))


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    from .keyring import Keys  # noqa: PLC0415  which needs this file's values

    made = Keys(tmp_path)
    yield made
    for key in made.made:
        key.close()
