"""What a new key says about its make: attestation statements, checked format by format (WebAuthn Level 3 section 8).

python-fido2 verifies the statements; here stands what it leaves out. Whether anybody trusts the roots is decided
elsewhere (`key_models`): a path is handed on unjudged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.attestation.apple import AppleAttestation
from fido2.attestation.base import Attestation, AttestationType, InvalidAttestation, NoneAttestation
from fido2.attestation.packed import PackedAttestation
from fido2.attestation.u2f import FidoU2FAttestation
from fido2.webauthn import AuthenticatorData as FidoAuthenticatorData

from tokenbridge.errors import RejectReason
from tokenbridge.rp.android_key import AndroidKeyAttestation
from tokenbridge.rp.certificate import PARSER_ERRORS
from tokenbridge.rp.cose_keys import ALGORITHMS, CredentialKey
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.tpm_attestation import TpmAttestation
from tokenbridge.rp.webauthn import AttestedCredential, AuthenticatorData
from tokenbridge.rp.x509_path import CERTIFICATE_ERRORS, PathError, parse_certificates

AAGUID_EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
U2F: Final = "fido-u2f"


@unique
class Vouched(StrEnum):
    """Who made the statement (section 6.5.4)."""

    NOBODY = "none"
    ITSELF = "self"
    MAKER = "maker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that is true as far as it goes. `path` is DER, the leaf first; empty unless the maker vouched."""

    format: str
    by: Vouched
    path: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    """The parts of a registration that a format's own checks look at."""

    statement: Mapping[str, Any]
    credential: AttestedCredential
    key: CredentialKey
    path: tuple[x509.Certificate, ...]


_TYPES: Final[Mapping[str, type[Attestation]]] = {
    "none": NoneAttestation,
    "packed": PackedAttestation,
    U2F: FidoU2FAttestation,
    "tpm": TpmAttestation,
    "android-key": AndroidKeyAttestation,
    "apple": AppleAttestation,
}
FORMATS: Final = tuple(_TYPES)
_BAD: Final = (*PARSER_ERRORS, *CERTIFICATE_ERRORS, InvalidAttestation)


def verify_statement(
    unverified: Mapping[str, Any], data: AuthenticatorData, key: CredentialKey, client_data_hash: bytes
) -> Statement:
    """Check the statement of an attestation object (a map with `fmt` and `attStmt`).

    Raises Rejected: FORMAT_UNSUPPORTED or ATTESTATION_INVALID.
    """
    kind, statement, credential = unverified.get("fmt"), unverified.get("attStmt"), data.credential
    if not isinstance(kind, str) or kind not in _TYPES:
        raise refusal(RejectReason.FORMAT_UNSUPPORTED, f"format {str(kind)[:32]!r}")
    if not isinstance(statement, dict) or credential is None:
        raise refusal(RejectReason.ATTESTATION_INVALID, "no statement")
    try:
        path = _path(statement)
        result = _TYPES[kind]().verify(statement, FidoAuthenticatorData(data.raw), client_data_hash)
        _OWN_CHECKS[kind](_New(statement=statement, credential=credential, key=key, path=path))
    except _BAD as err:
        raise refusal(RejectReason.ATTESTATION_INVALID, f"{kind}: {type(err).__name__}: {err}"[:300]) from err
    if result.attestation_type is AttestationType.NONE:
        return Statement(format=kind, by=Vouched.NOBODY)
    if result.attestation_type is AttestationType.SELF:
        return Statement(format=kind, by=Vouched.ITSELF)
    return Statement(format=kind, by=Vouched.MAKER, path=tuple(statement["x5c"]))


def _path(statement: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    if "x5c" not in statement:
        return ()
    ders = statement["x5c"]
    if not isinstance(ders, list):
        raise PathError("x5c is no list")
    return parse_certificates(ders)


# --- what python-fido2 leaves out ------------------------------------------------------------------------------


def _packed(new: _New) -> None:
    """Section 8.2: the algorithm is one that is accepted; the certificate's AAGUID, if any, is the key's."""
    if new.statement.get("alg") not in ALGORITHMS:
        raise ValueError("an algorithm that is not accepted")
    _same_aaguid(new)


def _u2f(new: _New) -> None:
    """Section 8.6: one certificate, P-256."""
    if len(new.path) != 1 or not isinstance(new.path[0].public_key(), ec.EllipticCurvePublicKey):
        raise ValueError("not exactly one certificate with an elliptic-curve key")
    curve = new.path[0].public_key().curve  # type: ignore[union-attr]  # just checked
    if not isinstance(curve, ec.SECP256R1) or new.key.algorithm != -7:
        raise ValueError("not P-256")


def _apple(new: _New) -> None:
    """Section 8.8: the certificate is the credential's own."""
    if new.path[0].public_key() != new.key.public:
        raise ValueError("the certificate is of another key")


def _nothing(_new: _New) -> None:
    pass


def _same_aaguid(new: _New) -> None:
    """Section 8.2.1: an OCTET STRING within the extension, not critical."""
    for certificate in new.path[:1]:
        try:
            extension = certificate.extensions.get_extension_for_oid(AAGUID_EXTENSION)
        except x509.ExtensionNotFound:
            return
        value = extension.value
        content = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
        if extension.critical or content != b"\x04\x10" + new.credential.aaguid:
            raise ValueError("the certificate is of another model")


_OWN_CHECKS: Final[Mapping[str, Callable[[_New], None]]] = {
    "none": _nothing,
    "packed": _packed,
    U2F: _u2f,
    "tpm": _same_aaguid,
    "android-key": _nothing,
    "apple": _apple,
}
