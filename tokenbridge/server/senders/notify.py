"""Text messages by GOV.UK Notify (its REST API, version 2).

Notify sends templates only: the operator makes one whose whole text is `((message))`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import time
from typing import Final

import httpx
import jwt

from tokenbridge.errors import SendFailed, SendFault, SetupError
from tokenbridge.server.senders import http
from tokenbridge.server.senders.port import Message

URL: Final = "https://api.notifications.service.gov.uk"
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY: Final = re.compile(rf".*?({_UUID})-({_UUID})", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyKey:
    service: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> NotifyKey:
        """`name-SERVICE-SECRET`, both UUIDs, as Notify shows it once. Raises `SetupError`."""
        found = _KEY.fullmatch(text.strip().lower())
        if found is None:
            raise SetupError(
                "The GOV.UK Notify key can't be right.", next_step="Copy the whole API key into the file again."
            )
        return cls(service=found[1], secret=found[2])

    def __repr__(self) -> str:
        return f"NotifyKey({self.service})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """`reports`: it tells what became of a message, by the reference that it was given."""

    http: httpx.Client
    url: str
    key: NotifyKey
    template: str
    reports: bool = False

    def send(self, message: Message) -> None:
        """Raises `SendFailed`."""
        answer = http.post(self.http, lambda: self._request(message))
        if answer.status == httpx.codes.CREATED:
            if not isinstance(answer.body, dict) or not isinstance(answer.body.get("id"), str):
                raise SendFailed(SendFault.DAMAGED, detail="201 without an id")
            return
        raise SendFailed(_fault(answer), detail=f"{answer.status} {_reason(answer)}")

    def _request(self, message: Message) -> httpx.Request:
        # Notify takes tokens for 30 seconds: each try has its own.
        token = jwt.encode({"iss": self.key.service, "iat": int(time())}, self.key.secret, algorithm="HS256")
        body = {
            "phone_number": message.to,
            "template_id": self.template,
            "personalisation": {"message": message.text},
            **({"reference": message.reference} if self.reports else {}),
        }
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.build_request("POST", f"{self.url}/v2/notifications/sms", json=body, headers=headers)


def _fault(answer: http.Answer) -> SendFault:
    """Notify's status codes: 400 for what is wrong with the message, 403 for the key, 429 for its limits."""
    told = str(answer.body)
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return SendFault.LIMITED
    number = answer.status == httpx.codes.BAD_REQUEST and "phone_number" in told
    return SendFault.RECIPIENT if number else SendFault.REFUSED


def _reason(answer: http.Answer) -> str:
    """The kinds of error that Notify names, without its sentences: those may repeat the number."""
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    kinds = (
        [str(item.get("error"))[:40] for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    )
    return ", ".join(kinds[:3])
