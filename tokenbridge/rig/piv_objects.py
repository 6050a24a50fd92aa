"""Names and data objects of the PIV card edge (NIST SP 800-73-4 parts 1 and 2). It holds no state and no keys."""

from __future__ import annotations

import gzip
from enum import IntEnum, StrEnum, unique
from typing import Final

from tokenbridge.wire import tlv

AID: Final = bytes.fromhex("A000000308000010000100")
"""Full application identifier, version 1.0 (part 1 section 2.2). Hosts may select by a prefix of it."""
MIN_AID: Final = 5


@unique
class PinRef(IntEnum):
    """Key references of things a person knows (part 1 table 4b)."""

    GLOBAL = 0x00
    APPLICATION = 0x80
    PUK = 0x81


@unique
class KeyRef(IntEnum):
    """Key references of private keys (part 1 table 4b); 82 to 95 are retired key management keys, F9 is vendor's."""

    AUTHENTICATION = 0x9A
    MANAGEMENT = 0x9B
    SIGNATURE = 0x9C
    KEY_MANAGEMENT = 0x9D
    CARD_AUTHENTICATION = 0x9E
    ATTESTATION = 0xF9


RETIRED_FIRST: Final = 0x82
RETIRED_LAST: Final = 0x95


@unique
class PinPolicy(IntEnum):
    """When the PIN must have been verified for a key to be used (values of the vendors' AA tag)."""

    NEVER = 1
    ONCE = 2
    ALWAYS = 3


@unique
class Tag(IntEnum):
    """Data objects (part 1 table 3)."""

    CHUID = 0x5FC102
    CCC = 0x5FC107
    CERT_AUTHENTICATION = 0x5FC105
    CERT_SIGNATURE = 0x5FC10A
    CERT_KEY_MANAGEMENT = 0x5FC10B
    CERT_CARD_AUTHENTICATION = 0x5FC101
    SECURITY = 0x5FC106
    PRINTED = 0x5FC109
    FINGERPRINTS = 0x5FC103
    FACE = 0x5FC108
    IRIS = 0x5FC121
    KEY_HISTORY = 0x5FC10C
    DISCOVERY = 0x7E
    BIT_GROUP = 0x7F61


BEHIND_PIN: Final = frozenset({Tag.PRINTED, Tag.FINGERPRINTS, Tag.FACE, Tag.IRIS})
BARE: Final = frozenset({Tag.DISCOVERY, Tag.BIT_GROUP})
"""Objects that are their own outer template instead of being wrapped in 53."""
FIRST_RETIRED_CERT: Final = 0x5FC10D

CERT_TAGS: Final = {
    KeyRef.AUTHENTICATION: Tag.CERT_AUTHENTICATION,
    KeyRef.SIGNATURE: Tag.CERT_SIGNATURE,
    KeyRef.KEY_MANAGEMENT: Tag.CERT_KEY_MANAGEMENT,
    KeyRef.CARD_AUTHENTICATION: Tag.CERT_CARD_AUTHENTICATION,
}

PIN_POLICIES: Final = {
    KeyRef.AUTHENTICATION: PinPolicy.ONCE,
    KeyRef.SIGNATURE: PinPolicy.ALWAYS,
    KeyRef.KEY_MANAGEMENT: PinPolicy.ONCE,
    KeyRef.CARD_AUTHENTICATION: PinPolicy.NEVER,
}


@unique
class Discovery(StrEnum):
    """What the discovery object says about PINs (part 1 section 3.3.2), or that there is none."""

    NONE = "none"
    APPLICATION = "application"
    BOTH_APPLICATION_PRIMARY = "both-application-primary"
    BOTH_GLOBAL_PRIMARY = "both-global-primary"


PIN_USAGE: Final = {
    Discovery.APPLICATION: 0x4000,
    Discovery.BOTH_APPLICATION_PRIMARY: 0x6010,
    Discovery.BOTH_GLOBAL_PRIMARY: 0x6020,
}


def is_key_ref(ref: int) -> bool:
    """Whether `ref` names an asymmetric key of the card."""
    return RETIRED_FIRST <= ref <= RETIRED_LAST or (ref in KeyRef.__members__.values() and ref != KeyRef.MANAGEMENT)


def has_certificate(ref: int) -> bool:
    """Whether the card edge has a certificate object for the key `ref`."""
    return RETIRED_FIRST <= ref <= RETIRED_LAST or ref in CERT_TAGS


def cert_tag(ref: int) -> int:
    """The data object that holds the certificate of the key `ref`."""
    if RETIRED_FIRST <= ref <= RETIRED_LAST:
        return FIRST_RETIRED_CERT + ref - RETIRED_FIRST
    return CERT_TAGS[KeyRef(ref)]


def pin_policy(ref: int) -> PinPolicy:
    """The policy that the standard gives the key `ref`."""
    return PIN_POLICIES.get(KeyRef(ref), PinPolicy.ONCE) if ref in PIN_POLICIES else PinPolicy.ONCE


def application_property_template() -> bytes:
    """The answer to SELECT (part 2 table 4): identifier without the registered provider, authority, label."""
    authority = tlv.encode(0x79, tlv.encode(0x4F, AID[:5]))
    return tlv.encode(0x61, tlv.encode(0x4F, AID[5:]) + authority + tlv.encode(0x50, b"tokenbridge virtual PIV"))


def discovery(kind: Discovery) -> bytes:
    """The whole object 7E; `kind` is not NONE."""
    usage = PIN_USAGE[kind].to_bytes(2, "big")
    return tlv.encode(Tag.DISCOVERY, tlv.encode(0x4F, AID) + tlv.encode(0x5F2F, usage))


def certificate(der: bytes, *, compressed: bool) -> bytes:
    """Content of a certificate object (part 1 appendix A table 10): 70 certificate, 71 CertInfo, FE empty."""
    body = gzip.compress(der, mtime=0) if compressed else der
    return tlv.encode(0x70, body) + tlv.encode(0x71, b"\x01" if compressed else b"\x00") + tlv.encode(0xFE, b"")


def certificate_bytes(content: bytes) -> bytes:
    """Inverse of `certificate`: the DER in a certificate object. Raises ValueError or OSError where there is none."""
    body = tlv.find(content, 0x70)
    if body is None:
        raise ValueError("no certificate in the object")
    return gzip.decompress(body) if tlv.find(content, 0x71) == b"\x01" else body


def chuid(guid: bytes, expires: str = "20991231") -> bytes:
    """Content of an unsigned CHUID: FASC-N of a non-federal issuer, the 16-byte `guid`, expiry YYYYMMDD."""
    fasc_n = bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C842108421")
    fields = ((0x30, fasc_n), (0x34, guid), (0x35, expires.encode()), (0x3E, b""), (0xFE, b""))
    return b"".join(tlv.encode(tag, value) for tag, value in fields)


def capability_container(card_id: bytes) -> bytes:
    """Content of the CCC (part 1 appendix A table 8); `card_id` is 14 bytes and follows the RID and card type."""
    identifier = bytes.fromhex("A0000001160202") + card_id
    fields = [(0xF0, identifier), (0xF1, b"\x21"), (0xF2, b"\x21"), (0xF3, b""), (0xF4, b"\x00"), (0xF5, b"\x10")]
    empty = [(tag, b"") for tag in (0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE)]
    return b"".join(tlv.encode(tag, value) for tag, value in (*fields, *empty))


def key_history(on_card: int) -> bytes:
    """Content of the key history object: `on_card` retired keys with their certificates on the card."""
    return tlv.encode(0xC1, bytes([on_card])) + tlv.encode(0xC2, b"\x00") + tlv.encode(0xFE, b"")


def printed_information(name: str, affiliation: str, serial: str) -> bytes:
    """Content of the printed information object (part 1 appendix A table 13), ASCII, each field cut to its limit."""
    fields = ((0x01, name[:125]), (0x02, affiliation[:20]), (0x04, "2099DEC31"), (0x05, serial[:20]), (0x06, "RIG"))
    body = b"".join(tlv.encode(tag, text.encode("ascii", "replace")) for tag, text in fields)
    return body + tlv.encode(0xFE, b"")
