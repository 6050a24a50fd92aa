"""A telephone made of software: it keeps a P-256 key and signs requests as the phone app's script does."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.server.conftest import Bench, now
from tokenbridge.server.phone_requests import public_key, thumbprint
from tokenbridge.server.store import accounts
from tokenbridge.server.store.phone_app_schema import PhoneApp


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(kw_only=True)
class SoftPhone:
    http: httpx.Client
    origin: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def thumbprint(self) -> str:
        return thumbprint(self.key.public_key())

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        x, y = (base64url(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def nonce(self) -> str:
        return self.http.get("/api/phone/nonce").json()["nonce"]

    def sign(self, act: str, content: dict[str, Any], header: dict[str, Any] | None = None, **claims: Any) -> str:
        """`claims` take the place of the usual ones."""
        payload = {"aud": self.origin, "nonce": self.nonce(), "act": act, **content, **claims}
        head = {"typ": "phone+jwt", **({"kid": self.thumbprint} if header is None else header)}
        return jwt.encode(payload, self.key, algorithm="ES256", headers=head)

    def post(self, path: str, signed: str) -> httpx.Response:
        return self.http.post(f"/api/phone/{path}", json={"signed": signed})

    def enrol(self, code: str, name: str = "iPhone", **claims: Any) -> httpx.Response:
        content = {"code": code, "name": name}
        return self.post("enrolment", self.sign("enrol", content, {"jwk": self.jwk}, **claims))

    def enrolled(self, bench: Bench, username: str) -> SoftPhone:
        """As if it had been set up: its row is there."""
        key = public_key(self.jwk)
        new = {"thumbprint": key.thumbprint, "public_key": key.der, "name": "iPhone", "device": "Safari on iPhone"}
        with bench.office() as office, office.database.write() as tx:
            account = accounts.get(tx, username)
            tx.add(PhoneApp(account_id=account.id, created_at=now(), confirmed_at=now(), **new))
        return self

    def look(self) -> httpx.Response:
        return self.post("request", self.sign("look", {}))

    def answer(self, approval: str, decision: str = "approve", number: str = "") -> httpx.Response:
        content = {"approval": approval, "decision": decision, "number": number}
        return self.post("answer", self.sign("answer", content))

    def subscribe(self, subscription: object) -> httpx.Response:
        return self.post("subscription", self.sign("subscribe", {"subscription": subscription}))


def forged(signed: str, **claims: Any) -> str:
    """The same signature over another payload."""
    header, payload, signature = signed.split(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return ".".join((header, base64url(json.dumps({**content, **claims}).encode()), signature))
