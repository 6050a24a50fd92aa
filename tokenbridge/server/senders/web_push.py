"""One push to one telephone (RFC 8030): encrypted for it (RFC 8291), signed by the server (RFC 8292)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
from pywebpush import WebPusher, WebPushException

from tokenbridge.errors import SendFailed, SendFault
from tokenbridge.server.push_keys import PushKeys, PushServices
from tokenbridge.server.senders import http

TTL: Final = 180
"""Seconds for which a push service keeps a push: as long as a question is open."""
TOKEN_SECONDS: Final = 12 * 3600  # RFC 8292 section 2: at most 24 hours
TOPIC: Final = "sign-in"
_GONE: Final = (httpx.codes.NOT_FOUND, httpx.codes.GONE)  # RFC 8030 section 7.3


@dataclass(frozen=True, slots=True, kw_only=True)
class WebPush:
    """`contact` is whom push services may ask: a mailto: or https: URI (RFC 8292 section 2.1)."""

    http: httpx.Client
    keys: PushKeys
    services: PushServices
    contact: str

    def send(self, subscription: Mapping[str, Any], content: bytes) -> bool:
        """False: the subscription is gone, and is to be forgotten. Raises `SendFailed`. No redirect is followed."""
        endpoint = str(subscription["endpoint"])
        if not self.services.knows(endpoint):
            return False  # the operator does not allow that service any more
        try:
            body = WebPusher(subscription).encode(content)["body"]
        except (WebPushException, ValueError) as err:
            raise SendFailed(SendFault.REFUSED, detail=repr(err)) from err
        answer = http.post(
            self.http,
            lambda: self.http.build_request("POST", endpoint, content=body, headers=self._headers(endpoint)),
        )
        if answer.status in _GONE:
            return False
        if not httpx.codes.is_success(answer.status):
            fault = SendFault.LIMITED if answer.status == httpx.codes.TOO_MANY_REQUESTS else SendFault.REFUSED
            raise SendFailed(fault, detail=f"push service: {answer.status}")
        return True

    def _headers(self, endpoint: str) -> dict[str, str]:
        parts = urlsplit(endpoint)
        expires = int(time.time()) + TOKEN_SECONDS
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": expires, "sub": self.contact}
        token = jwt.encode(claims, self.keys.key(), algorithm="ES256")
        return {
            "Authorization": f"vapid t={token}, k={self.keys.public()}",
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL),
            "Urgency": "high",
            "Topic": TOPIC,
        }
