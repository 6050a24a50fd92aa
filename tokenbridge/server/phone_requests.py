"""What telephones sign: every request of a phone app, by the key that it keeps. It blocks.

A request is a JWS in compact form (RFC 7515 section 3.1) with ES256, which is what WebCrypto's ECDSA makes:

    header   {"alg": "ES256", "typ": "phone+jwt", "kid": THUMBPRINT}       (RFC 7638), or "jwk" while it is set up
    payload  {"aud": ORIGIN, "nonce": NONCE, "act": ACT, ...}

`nonce` is one of this server's, at most `LIFETIME` old, and used once: a request that is sent again is refused. The
clocks of telephones don't matter. `act` names the address that it is for, so that one request can't be taken for
another. An answer's payload (`act` "answer") also holds `approval`, `decision` ("approve" or "deny") and `number`: what
is signed is this decision about this question, for this origin.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tokenbridge.errors import BadRequest, NonceStale, PhoneUnknown
from tokenbridge.server import keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import CLOCK_SKEW, Clock
from tokenbridge.server.store import nonces, phone_apps
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.phone_app_schema import PhoneApp

LIFETIME: Final = dt.timedelta(minutes=5)
MAX_SIGNED: Final = 4096
MAX_NONCE: Final = 160
TYPE: Final = "phone+jwt"
_COORDINATE: Final = 32  # octets of a P-256 coordinate, RFC 7518 section 6.2.1.2
_PURPOSE: Final = "phone nonce"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """`der` is SubjectPublicKeyInfo, `thumbprint` the base64url SHA-256 of RFC 7638."""

    key: ec.EllipticCurvePublicKey
    der: bytes
    thumbprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneRequests:
    database: Database
    keys: KeyBook
    clock: Clock
    site: str

    def nonce(self) -> str:
        """A new nonce: when it was made, 128 random bits, and the server's seal of both. Nothing is stored."""
        text = f"{int(self.clock().timestamp()):x}.{secrets.token_hex(16)}"
        return f"{text}.{self.keys.ring().seal(_sealed_bytes(text))}"

    def of_phone(self, signed: str, act: str) -> tuple[PhoneApp, Mapping[str, Any]]:
        """The telephone that has signed the request, confirmed or not, and the payload; the nonce is spent.

        Raises `BadRequest`, `NonceStale`, or `PhoneUnknown` for a key that is not known and for a wrong signature.
        """
        thumbprint = _header(signed).get("kid")
        if not isinstance(thumbprint, str):
            raise BadRequest("The request names no key.")
        with self.database.read() as tx:
            app = phone_apps.find(tx, thumbprint) if len(thumbprint) <= 64 else None
        if app is None:
            raise PhoneUnknown
        key = serialization.load_der_public_key(app.public_key)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return app, self._payload(signed, key, act)

    def of_new_key(self, signed: str, act: str) -> tuple[PublicKey, Mapping[str, Any]]:
        """A key that is shown for the first time and the payload that it has signed: a proof that somebody has it.
        Raises as `of_phone`."""
        found = public_key(_header(signed).get("jwk"))
        return found, self._payload(signed, found.key, act)

    def _payload(self, signed: str, key: ec.EllipticCurvePublicKey, act: str) -> Mapping[str, Any]:
        required = ["aud", "nonce", "act"]
        try:
            payload: dict[str, Any] = jwt.decode(
                signed, key, algorithms=["ES256"], audience=self.site, options={"require": required}
            )
        except jwt.InvalidSignatureError as err:
            raise PhoneUnknown(detail="wrong signature") from err
        except (jwt.InvalidTokenError, RecursionError) as err:
            raise BadRequest("The request can't be understood.", detail=repr(err)) from err
        if payload["act"] != act:
            raise BadRequest("The request is for something else.")
        self._spend(payload["nonce"])
        return payload

    def _spend(self, nonce: object) -> None:
        text, _, seal = nonce.rpartition(".") if isinstance(nonce, str) and len(nonce) <= MAX_NONCE else ("", "", "")
        if not self.keys.ring().sealed(_sealed_bytes(text), seal):
            raise NonceStale
        now, made = self.clock(), dt.datetime.fromtimestamp(int(text.partition(".")[0], 16), dt.UTC)
        if not made - CLOCK_SKEW <= now < made + LIFETIME:
            raise NonceStale
        with self.database.write_shared() as tx:
            fresh = nonces.spend(tx, keys.hash_token(text), now, made + LIFETIME + CLOCK_SKEW)
        if not fresh:
            raise NonceStale


def public_key(jwk: object) -> PublicKey:
    """A P-256 public key of a JWK (RFC 7518 section 6.2). Raises `BadRequest` for anything else."""
    try:
        if not isinstance(jwk, dict) or (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
            raise ValueError("no P-256 key")
        x, y = (_coordinate(jwk.get(name)) for name in ("x", "y"))
        # The library refuses what is no point of the curve.
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as err:
        raise BadRequest("The key is no P-256 key.", detail=str(err)) from err
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key=key, der=der, thumbprint=thumbprint(key))


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638 section 3: of the required members in their order, without blanks."""
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(_COORDINATE, "big")) for number in (numbers.x, numbers.y))
    members = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    return _base64url(hashlib.sha256(members.encode()).digest())


def _header(signed: str) -> Mapping[str, Any]:
    try:
        header = jwt.get_unverified_header(signed)
    except (jwt.InvalidTokenError, RecursionError) as err:
        raise BadRequest("The request can't be understood.", detail=repr(err)) from err
    if header.get("typ") != TYPE:
        raise BadRequest("The request is of another type.")
    return header


def _coordinate(text: object) -> int:
    if not isinstance(text, str) or len(text) != 43:
        raise ValueError("a coordinate has 43 characters")
    return int.from_bytes(base64.urlsafe_b64decode(text + "="), "big")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _sealed_bytes(text: str) -> bytes:
    return f"{_PURPOSE}\0{text}".encode("utf-8", "surrogatepass")
