"""The server's key for Web Push (RFC 8292), and the subscriptions that telephones give it. It sends nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tokenbridge.errors import BadRequest, SetupError
from tokenbridge.server.keys import KeyBook, KeyRing
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import server_keys
from tokenbridge.server.store.database import Database

MAX_ENDPOINT: Final = 1024
NAME: Final = "web-push"
_CONTEXT: Final = f"server key:{NAME}"
_HOST: Final = re.compile(r"(\*\.)?([a-z0-9-]{1,63}\.)+[a-z]{2,63}")
_POINT: Final = 65  # octets of an uncompressed P-256 point, RFC 8291 section 3.1
_SECRET: Final = 16  # octets, RFC 8291 section 3.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PushKeys:
    """One key for all processes: made by the first that needs it, encrypted in the database."""

    database: Database
    keys: KeyBook

    def key(self) -> ec.EllipticCurvePrivateKey:
        with self.database.read() as tx:
            sealed = server_keys.find(tx, NAME)
        if sealed is None:
            sealed = self._make()
        der = self.keys.ring().decrypt(sealed, context=_CONTEXT)
        found = serialization.load_der_private_key(der, password=None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return found

    def public(self) -> str:
        """`applicationServerKey` (Push API, section 7.2): the uncompressed point, base64url."""
        point = (
            self.key()
            .public_key()
            .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        )
        return base64.urlsafe_b64encode(point).rstrip(b"=").decode("ascii")

    def _make(self) -> bytes:
        der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with self.database.write() as tx:
            server_keys.keep(tx, NAME, self.keys.ring().encrypt(der, context=_CONTEXT))
            found = server_keys.find(tx, NAME)
        assert found is not None
        return found


def services_of(settings: Settings) -> PushServices:
    """What the settings allow; with the development outbox only its own service. Raises `SetupError`."""
    if settings.push_contact and not settings.push_contact.startswith(("mailto:", "https:")):
        raise SetupError("push_contact is an address such as mailto:it@example.org, or a page (https:).")
    if not all(_HOST.fullmatch(host) for host in settings.push_services):
        raise SetupError("push_services holds host names such as push.example.org or *.push.example.org.")
    if settings.outbox:
        return PushServices(hosts=(), own=settings.site)
    return PushServices(hosts=settings.push_services)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushServices:
    """Where this server may send pushes: the address comes from a telephone, so it counts only if the operator knows
    its host. `hosts` are names, or `*.` and what they end with; `own` is the origin of a push service for development.
    """

    hosts: tuple[str, ...]
    own: str = ""

    def knows(self, endpoint: str) -> bool:
        """Only HTTPS at the usual port of a known name, and nothing that could be read in two ways."""
        if len(endpoint) > MAX_ENDPOINT or not endpoint.isascii() or not endpoint.isprintable() or "\\" in endpoint:
            return False
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError:
            return False
        if self.own and f"{parts.scheme}://{parts.netloc}" == self.own:
            return True
        plain = parts.scheme == "https" and port in (None, 443) and "@" not in parts.netloc
        return plain and any(_fits(parts.hostname or "", host) for host in self.hosts)

    def read(self, raw: object) -> str:
        """A `PushSubscription` as JSON (Push API, section 8.1), reduced to what is needed. Raises `BadRequest`."""
        found = raw if isinstance(raw, dict) else {}
        endpoint, given = found.get("endpoint"), found.get("keys")
        if not isinstance(endpoint, str) or not self.knows(endpoint):
            raise BadRequest(
                "This server does not know that push service.",
                next_step="The app works without pushes: open it when you sign in.",
            )
        parts = {name: _decoded(given, name, length) for name, length in (("p256dh", _POINT), ("auth", _SECRET))}
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), parts["p256dh"][1])
        except ValueError as err:
            raise BadRequest("The subscription's key is none.") from err
        return json.dumps({"endpoint": endpoint, "keys": {name: text for name, (text, _) in parts.items()}})


def seal(ring: KeyRing, subscription: str, account_id: int) -> bytes:
    return ring.encrypt(subscription.encode(), context=_subscription(account_id))


def opened(ring: KeyRing, sealed: bytes, account_id: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ring.decrypt(sealed, context=_subscription(account_id)))
    return found


def renew_subscription(ring: KeyRing, sealed: bytes, account_id: int) -> bytes:
    """By the newest key."""
    return ring.encrypt(ring.decrypt(sealed, context=_subscription(account_id)), context=_subscription(account_id))


def renew_key(ring: KeyRing, sealed: bytes) -> bytes:
    """By the newest key."""
    return ring.encrypt(ring.decrypt(sealed, context=_CONTEXT), context=_CONTEXT)


def _subscription(account_id: int) -> str:
    return f"push subscription:{account_id}"


def _fits(name: str, host: str) -> bool:
    return name.endswith(host[1:]) and name != host[2:] if host.startswith("*.") else name == host


def _decoded(given: object, name: str, length: int) -> tuple[str, bytes]:
    text = given.get(name) if isinstance(given, Mapping) else None
    try:
        if not isinstance(text, str) or len(text) > 2 * length:
            raise ValueError(name)
        data = base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError as err:
        raise BadRequest("The subscription can't be understood.") from err
    if len(data) != length:
        raise BadRequest("The subscription can't be understood.")
    return text, data
