"""A push service for development, on the server itself: what telephones would be sent goes to the outbox.

It does what browsers and their services do together: it makes subscriptions (Push API), takes pushes (RFC 8030) that
are signed by this server's key (RFC 8292), and decrypts them (RFC 8291).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import http_ece
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tokenbridge.errors import BadRequest, NotFound, SetupError
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.push_keys import PushKeys
from tokenbridge.server.senders.outbox import Outbox

PATH: Final = "/outbox/push"
MAX_BODY: Final = 4096  # RFC 8291 section 4
_CONTEXT: Final = "development push"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPushService:
    """A subscription's secrets are in its address, encrypted: nothing is stored."""

    keys: KeyBook
    push_keys: PushKeys
    outbox: Outbox
    site: str

    def subscribe(self) -> dict[str, Any]:
        """A `PushSubscription` as JSON."""
        key, auth = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        sealed = self.keys.ring().encrypt(auth + der, context=_CONTEXT)
        return {
            "endpoint": f"{self.site}{PATH}/{_text(sealed)}",
            "keys": {"p256dh": _text(point), "auth": _text(auth)},
        }

    def receive(self, receiver: str, headers: Mapping[str, str], body: bytes) -> None:
        """One push. Raises `NotFound` for a subscription that is none, `BadRequest` for a push that no browser would
        get: not signed by this server, or not to be decrypted."""
        try:
            secret = self.keys.ring().decrypt(_bytes(receiver), context=_CONTEXT)
        except (SetupError, ValueError) as err:
            raise NotFound("There is no such subscription.") from err
        self._check_sender(headers.get("authorization", ""))
        if headers.get("content-encoding") != "aes128gcm" or not headers.get("ttl", "").isdigit():
            raise BadRequest("A push has a TTL and the encoding aes128gcm.")
        key = serialization.load_der_private_key(secret[16:], password=None)
        try:
            plain = http_ece.decrypt(body[: MAX_BODY + 1], private_key=key, auth_secret=secret[:16])
            kind = json.loads(plain)["kind"]
        except (http_ece.ECEException, ValueError, KeyError, TypeError) as err:
            raise BadRequest("The push can't be read.", detail=repr(err)) from err
        self.outbox.keep({"channel": "push", "to": "phone app", "text": f"Somebody signs in ({kind}).", "subject": ""})

    def _check_sender(self, header: str) -> None:
        """RFC 8292 sections 2 and 3: `vapid t=TOKEN, k=KEY`."""
        scheme, _, rest = header.partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
        if scheme != "vapid" or parts.get("k") != self.push_keys.public():
            raise BadRequest("The push is not signed by this server.")
        key = self.push_keys.key().public_key()
        try:
            jwt.decode(
                parts.get("t", ""), key, algorithms=["ES256"], audience=self.site, options={"require": ["exp", "aud"]}
            )
        except jwt.InvalidTokenError as err:
            raise BadRequest("The push is not signed by this server.", detail=repr(err)) from err


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
