"""Two verifiers of WebAuthn that are not ours: npm @simplewebauthn/server and PyPI webauthn.

`judge_registration(options, response, ...)` and `judge_assertion(options, response, ...)` take the JSON forms that went
over the wire, and return the facts that each judge found. A judge that refuses raises `NotAccepted`; PyPI webauthn is
not asked about algorithms that it does not know (ES384).
"""

from __future__ import annotations

import json
import subprocess
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webauthn
from fido2 import cbor
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import AttestationFormat, CredentialDeviceType

HERE = Path(__file__).parent
NODE = Path(__file__).parents[3] / ".node"
SECONDS = 30


class NotAccepted(AssertionError):
    """A judge refused what it was shown."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a judge found. `format`, `aaguid`, `public_key` (COSE): of registrations only."""

    judge: str
    id: bytes
    counter: int
    user_verified: bool
    synced: bool
    format: str = ""
    aaguid: str = ""
    public_key: bytes = b""


def judge_registration(
    options: Mapping[str, Any],
    response: Mapping[str, Any],
    *,
    origin: str,
    roots: Mapping[str, Sequence[bytes]] | None = None,
    user_verification: bool = False,
) -> list[Facts]:
    """`options`: PublicKeyCredentialCreationOptionsJSON. `roots`: PEM per format; without them any path will do."""
    case = {
        "kind": "registration",
        "response": dict(response),
        "challenge": options["challenge"],
        "origin": origin,
        "rpId": options["rp"]["id"],
        "userVerification": user_verification,
        "roots": {form: [pem.decode() for pem in pems] for form, pems in (roots or {}).items()},
    }
    found = _by_node(case)
    return [found, *([_registration_by_python(case)] if _python_knows(found.public_key) else [])]


def judge_assertion(
    options: Mapping[str, Any],
    response: Mapping[str, Any],
    *,
    origin: str,
    public_key: bytes,
    counter: int = 0,
    user_verification: bool = False,
) -> list[Facts]:
    """`options`: PublicKeyCredentialRequestOptionsJSON. `public_key`: COSE; `counter`: the one that is stored."""
    case = {
        "kind": "assertion",
        "response": dict(response),
        "challenge": options["challenge"],
        "origin": origin,
        "rpId": options["rpId"],
        "userVerification": user_verification,
        "publicKey": _text(public_key),
        "counter": counter,
    }
    return [_by_node(case), *([_assertion_by_python(case)] if _python_knows(public_key) else [])]


def _by_node(case: Mapping[str, Any]) -> Facts:
    program = ["node", str(HERE / "judge.mjs"), str(NODE)]
    done = subprocess.run(program, input=json.dumps(case), capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the judge does not run (scripts/setup test makes it ready): {done.stderr[-500:]}")
    found = json.loads(done.stdout)
    if not found["ok"]:
        raise NotAccepted(f"@simplewebauthn/server: {found['error']}")
    return Facts(
        judge="@simplewebauthn/server",
        id=_bytes(found["id"]),
        counter=found["counter"],
        user_verified=found["userVerified"],
        synced=found["synced"],
        format=found.get("format", ""),
        aaguid=found.get("aaguid", ""),
        public_key=_bytes(found.get("publicKey", "")),
    )


def _registration_by_python(case: Mapping[str, Any]) -> Facts:
    roots = {AttestationFormat(form): [pem.encode() for pem in pems] for form, pems in case["roots"].items()}
    try:
        found = webauthn.verify_registration_response(
            credential=case["response"],
            expected_challenge=_bytes(case["challenge"]),
            expected_rp_id=case["rpId"],
            expected_origin=case["origin"],
            require_user_verification=case["userVerification"],
            supported_pub_key_algs=list(COSEAlgorithmIdentifier),
            pem_root_certs_bytes_by_fmt=roots,
        )
    except (WebAuthnException, ValueError) as err:
        raise NotAccepted(f"PyPI webauthn: {err!r}") from err
    return Facts(
        judge="PyPI webauthn",
        id=found.credential_id,
        counter=found.sign_count,
        user_verified=found.user_verified,
        synced=found.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        format=str(found.fmt),
        aaguid=found.aaguid,
        public_key=found.credential_public_key,
    )


def _assertion_by_python(case: Mapping[str, Any]) -> Facts:
    try:
        found = webauthn.verify_authentication_response(
            credential=case["response"],
            expected_challenge=_bytes(case["challenge"]),
            expected_rp_id=case["rpId"],
            expected_origin=case["origin"],
            credential_public_key=_bytes(case["publicKey"]),
            credential_current_sign_count=case["counter"],
            require_user_verification=case["userVerification"],
        )
    except (WebAuthnException, ValueError) as err:
        raise NotAccepted(f"PyPI webauthn: {err!r}") from err
    return Facts(
        judge="PyPI webauthn",
        id=found.credential_id,
        counter=found.new_sign_count,
        user_verified=found.user_verified,
        synced=found.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
    )


def _python_knows(public_key: bytes) -> bool:
    return cbor.decode(public_key)[3] in list(COSEAlgorithmIdentifier)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
