"""Reads the FIDO Metadata Service's blob (MDS 3.0 section 3.1.7): a JWS whose chain must end at a root that is given.

It fetches nothing and stores nothing. Nothing of a blob is used before its signature is checked.
"""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from fido2.cose import CoseKey
from fido2.mds3 import MetadataBlobPayload, MetadataBlobPayloadEntry, StatusReport, VerificationMethodDescriptor
from fido2.utils import websafe_decode

from tokenbridge.errors import BadRequest
from tokenbridge.rp.certificate import PARSER_ERRORS
from tokenbridge.rp.key_metadata import Metadata, Model, Report
from tokenbridge.rp.proof import Factor
from tokenbridge.rp.x509_path import CERTIFICATE_ERRORS, PathError, find_root, parse_certificates

MAX_BLOB_BYTES: Final = 32 << 20
MAX_MODELS: Final = 5000

_ALGORITHMS: Final = ("ES256", "RS256", "ES384", "ES512")
_FACTORS: Final = {
    "passcode_internal": Factor.KNOWLEDGE,
    "passcode_external": Factor.KNOWLEDGE,
    "pattern_internal": Factor.KNOWLEDGE,
    "pattern_external": Factor.KNOWLEDGE,
    "fingerprint_internal": Factor.INHERENCE,
    "faceprint_internal": Factor.INHERENCE,
    "voiceprint_internal": Factor.INHERENCE,
    "eyeprint_internal": Factor.INHERENCE,
    "handprint_internal": Factor.INHERENCE,
}


def read_blob(blob: bytes, roots: Sequence[x509.Certificate], now: dt.datetime, *, signer: str = "") -> Metadata:
    """The metadata in `blob`, signed under one of `roots`. Raises `BadRequest` that says what is wrong with it.

    `signer` is the DNS name that the signer's certificate must have; without one any certificate below `roots` will do.
    """
    if len(blob) > MAX_BLOB_BYTES:
        raise _refuse(f"it is larger than {MAX_BLOB_BYTES >> 20} MiB")
    parts = blob.strip().split(b".")
    if len(parts) != 3:
        raise _refuse("it is no signed blob (three parts with dots between)")
    _check_signature(parts, roots, now, signer)
    return _metadata(_decoded(parts[1], "contents"))


def _check_signature(parts: Sequence[bytes], roots: Sequence[x509.Certificate], now: dt.datetime, signer: str) -> None:
    header = _decoded(parts[0], "header")
    algorithm, chain = header.get("alg"), header.get("x5c")
    if algorithm not in _ALGORITHMS or not isinstance(chain, list) or not chain:
        raise _refuse("its header names no algorithm or certificates that are accepted")
    try:
        path = parse_certificates([b64decode(text, validate=True) for text in chain])
    except (PathError, ValueError, TypeError) as err:
        raise _refuse("its certificates can't be read", str(err)) from err
    if find_root(path, roots, now) is None:
        raise _refuse("its certificates do not lead to a trusted root, or one of them is out of date")
    if signer and signer not in _dns_names(path[0]):
        raise _refuse(f"its signer is not {signer}")
    try:
        key = CoseKey.for_name(algorithm).from_cryptography_key(path[0].public_key())
        _verify(key, algorithm, b".".join(parts[:2]), websafe_decode(parts[2]))
    except (*CERTIFICATE_ERRORS, *PARSER_ERRORS) as err:
        raise _refuse("its signature is wrong", repr(err)) from err


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)
    except CERTIFICATE_ERRORS:
        return []


def _verify(key: CoseKey, algorithm: str, message: bytes, signature: bytes) -> None:
    if algorithm.startswith("ES"):
        # JWS writes R || S (RFC 7518 section 3.4), X.509 and COSE's verifier here take a DER sequence.
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        signature = encode_dss_signature(r, s)
    key.verify(message, signature)


def _decoded(part: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(websafe_decode(part))
    except (ValueError, RecursionError) as err:
        raise _refuse(f"its {what} can't be read", str(err)) from err
    if not isinstance(value, dict):
        raise _refuse(f"its {what} can't be read")
    return value


def _metadata(payload: Mapping[str, Any]) -> Metadata:
    try:
        content = MetadataBlobPayload.from_dict(payload)
        if len(content.entries) > MAX_MODELS:
            raise _refuse(f"it names more than {MAX_MODELS} models")
        models = [*_models(content.entries)]
        return Metadata(number=int(content.no), next_update=content.next_update, models=models)
    except PARSER_ERRORS as err:
        raise _refuse("its contents are not as MDS 3 says", str(err)) from err


def _models(entries: Iterable[MetadataBlobPayloadEntry]) -> Iterator[Model]:
    for entry in entries:
        statement = entry.metadata_statement
        if entry.aaguid is None and not entry.attestation_certificate_key_identifiers:
            continue  # UAF: nothing that speaks WebAuthn
        yield Model(
            name=_printable(statement.description) if statement else "",
            aaguid=bytes(entry.aaguid or b""),
            key_ids=frozenset(key.hex() for key in entry.attestation_certificate_key_identifiers or ()),
            roots=tuple(statement.attestation_root_certificates) if statement else (),
            reports=tuple(_report(report) for report in entry.status_reports),
            protection=frozenset(statement.key_protection) if statement else frozenset(),
            verified_by=tuple(_ways(statement.user_verification_details)) if statement else (),
        )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:200]).strip()


def _report(report: StatusReport) -> Report:
    certificate = report.certificate or report.batch_certificate
    return Report(
        status=str(report.status or ""),
        since=report.effective_date,
        certificate=certificate.hex() if certificate else "",
    )


def _ways(details: Iterable[Iterable[VerificationMethodDescriptor]]) -> Iterator[frozenset[Factor]]:
    """The factors of each alternative; presence and nothing at all are no factors."""
    for alternative in details:
        names = {str(method.user_verification_method) for method in alternative}
        factors = frozenset(_FACTORS[name] for name in names if name in _FACTORS)
        if factors:
            yield factors


def _refuse(what: str, detail: str = "") -> BadRequest:
    return BadRequest(
        f"This metadata is not accepted: {what}.",
        next_step="Fetch the blob again from the metadata service, and check --root.",
        detail=detail,
    )
