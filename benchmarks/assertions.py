"""The relying party's verification of one assertion of a key, beside the bare signature check of `cryptography`
and beside PyPI `webauthn`, on the same inputs in one run."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
import struct
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import webauthn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256

from benchmarks.bench import table
from tokenbridge.rp.key_assertion import Assertion, RegisteredKey, verify_assertion
from tokenbridge.rp.webauthn import UP, UV, Expectation, to_base64url

RUNS = 2000
ORIGIN, RP_ID = "https://portal.example.org", "portal.example.org"
GOAL, GOAL_BESIDE = 1.5, 2.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One assertion, in every form that is measured."""

    public: ec.EllipticCurvePublicKey
    cose: bytes
    challenge: bytes
    message: bytes
    signature: bytes
    credential: dict[str, Any]


def run(*, runs: int = RUNS) -> None:
    case = make()
    ours, bare, other = compare([lambda: verify(case), lambda: check(case), lambda: beside(case)], runs)
    rows = [
        ("tokenbridge, parsed JSON to facts", ours, f"{ours / bare:.2f} x the bare check (goal: at most {GOAL})"),
        ("the signature check alone", bare, "cryptography, P-256"),
        ("PyPI webauthn", other, f"{other / ours:.2f} x ours (goal: at least {GOAL_BESIDE})"),
        ("the two without that check", ours - bare, f"{(other - bare) / (ours - bare):.1f} x as much in webauthn"),
    ]
    print(
        table(
            ("one assertion of a key, ES256", "us", ""),
            [(name, f"{time * 1e6:.0f}", note) for name, time, note in rows],
        )
    )


def make() -> Case:
    private = ec.generate_private_key(ec.SECP256R1())
    challenge, credential_id = bytes(range(32)), bytes(range(64))
    client = {"type": "webauthn.get", "challenge": to_base64url(challenge), "origin": ORIGIN, "crossOrigin": False}
    client_data = json.dumps(client, separators=(",", ":")).encode()
    data = hashlib.sha256(RP_ID.encode()).digest() + struct.pack(">BI", UP | UV, 7)
    message = data + hashlib.sha256(client_data).digest()
    signature = private.sign(message, ec.ECDSA(hashes.SHA256()))
    name = to_base64url(credential_id)
    response = {"clientDataJSON": client_data, "authenticatorData": data, "signature": signature}
    return Case(
        public=private.public_key(),
        cose=cbor.encode(dict(ES256.from_cryptography_key(private.public_key()))),
        challenge=challenge,
        message=message,
        signature=signature,
        credential={
            "type": "public-key",
            "id": name,
            "rawId": name,
            "response": {key: urlsafe_b64encode(value).rstrip(b"=").decode() for key, value in response.items()},
            "clientExtensionResults": {},
        },
    )


def verify(case: Case) -> None:
    """What the server does with a request, from the parsed JSON to facts. The key was used before."""
    expected = Expectation(challenge=to_base64url(case.challenge), origin=ORIGIN, rp_id=RP_ID, user_verification=True)
    assertion = Assertion.parse(case.credential)
    key = RegisteredKey(credential_id=bytes(range(64)), cose=case.cose, backup_eligible=False)
    if not verify_assertion(assertion, key, expected).user_verified:
        raise AssertionError("not verified")


def check(case: Case) -> None:
    case.public.verify(case.signature, case.message, ec.ECDSA(hashes.SHA256()))


def beside(case: Case) -> None:
    webauthn.verify_authentication_response(
        credential=case.credential,
        expected_challenge=case.challenge,
        expected_rp_id=RP_ID,
        expected_origin=ORIGIN,
        credential_public_key=case.cose,
        credential_current_sign_count=6,
        require_user_verification=True,
    )


def compare(works: list[Callable[[], object]], runs: int) -> list[float]:
    """Medians in seconds; the works take turns, so that whatever else the machine does meets all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _, (place, work) in itertools.product(range(runs), enumerate(works)):
        started = time.perf_counter()
        work()
        times[place].append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]
