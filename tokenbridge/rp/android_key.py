"""The attestation format `android-key` (WebAuthn Level 3 section 8.4), which python-fido2 does not have.

The certificate's extension is Android's KeyDescription; only what WebAuthn asks for is read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asn1crypto import core
from cryptography import x509
from fido2.attestation.base import Attestation, AttestationResult, AttestationType, InvalidData
from fido2.cose import CoseKey
from fido2.webauthn import AuthenticatorData

from tokenbridge.wire import tlv

OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")

# Android's KeyMint: positions in KeyDescription, and explicit context tags in an AuthorizationList.
_CHALLENGE, _SOFTWARE, _HARDWARE, _FIELDS = 4, 6, 7, 8
_PURPOSE, _ALL_APPLICATIONS, _ORIGIN = 0xA1, 0xBF8458, 0xBF853E
_SIGN, _GENERATED = 2, 0


class AndroidKeyAttestation(Attestation):
    FORMAT = "android-key"

    def verify(
        self, statement: Mapping[str, Any], auth_data: AuthenticatorData, client_data_hash: bytes
    ) -> AttestationResult:
        """Raises `InvalidData`, or what the parsers raise; the caller turns both into a refusal."""
        path = statement["x5c"]
        leaf = x509.load_der_x509_certificate(path[0])
        credential = auth_data.credential_data
        if credential is None:
            raise InvalidData("no credential")
        key = CoseKey.for_alg(statement["alg"]).from_cryptography_key(leaf.public_key())
        if dict(key) != dict(credential.public_key):
            raise InvalidData("the certificate is of another key")
        key.verify(auth_data + client_data_hash, statement["sig"])
        extension = leaf.extensions.get_extension_for_oid(OID).value
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise InvalidData("the extension has another meaning")
        _check_description(extension.value, client_data_hash)
        return AttestationResult(AttestationType.BASIC, list(path))


def _check_description(der: bytes, client_data_hash: bytes) -> None:
    fields = tlv.parse(tlv.parse_one(der).value)
    if len(fields) < _FIELDS or fields[_CHALLENGE].value != client_data_hash:
        raise InvalidData("attestationChallenge is not the client data's hash")
    lists = [fields[_SOFTWARE].value, fields[_HARDWARE].value]
    if any(tlv.find(content, _ALL_APPLICATIONS) is not None for content in lists):
        raise InvalidData("the key is open to all applications")
    # What neither list says is not known: whether keys of that model are held by hardware is for metadata to say.
    origins = [_numbers(content, _ORIGIN, 0x02) for content in lists]
    purposes = [_numbers(content, _PURPOSE, 0x31) for content in lists]
    if any(found not in ([], [_GENERATED]) for found in origins):
        raise InvalidData("the key was not generated on the device")
    if any(found not in ([], [_SIGN]) for found in purposes):
        raise InvalidData("the key is for more than signatures")


def _numbers(content: bytes, *path: int) -> list[int]:
    """The INTEGER, or the INTEGERs of the SET, at `path`."""
    value = tlv.find(content, *path)
    if value is None:
        return []
    items = tlv.parse(value) if path[-1] == 0x31 else [tlv.Tlv(tag=0x02, value=value)]
    return [int(core.Integer(contents=item.value).native) for item in items]
