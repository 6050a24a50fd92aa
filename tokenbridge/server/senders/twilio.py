"""Text and WhatsApp messages and calls by Twilio (REST API of 2010-04-01: Messages and Calls resources; TwiML)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

import httpx

from tokenbridge.errors import SendFailed, SendFault
from tokenbridge.server.senders import http
from tokenbridge.server.senders.port import Channel, Message

_RECIPIENT: Final = frozenset({21211, 21214, 21217, 21408, 21610, 21612, 21614, 63003, 63024})
"""Twilio's error codes that say that this number can't be reached, or not by this channel."""


ANSWERS: Final = "/hooks/twilio/voice/"
"""Where a pressed key is told to, followed by the call's handle: `twilio_api`."""
REPORTS: Final = "/hooks/twilio/message/"
"""Where it is told what became of a message, followed by its reference: `twilio_api`."""
CALLS: Final = "/hooks/twilio/call/"
"""Where it is told what became of a call, followed by the call's handle: `twilio_api`."""
RING_SECONDS: Final = 30
CALL_SECONDS: Final = 60
_KEY_SECONDS: Final = 10
_LANGUAGE: Final = "en-GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """`callback` is the origin at which Twilio reaches this server, `token` what it signs by."""

    callback: str
    token: str

    def __repr__(self) -> str:
        return f"Lines({self.callback})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Twilio:
    """`template` is the ContentSid of an approved WhatsApp template with the code as its variable 1. `reports`: it is
    asked to tell what became of a message or a call."""

    http: httpx.Client
    url: str
    account: str
    token: str
    sender: str
    whatsapp_sender: str = ""
    voice_sender: str = ""
    callback: str = ""
    template: str = ""
    reports: bool = False

    def __repr__(self) -> str:
        return f"Twilio({self.account})"

    def send(self, message: Message) -> None:
        """Raises `SendFailed`."""
        answer = http.post(self.http, lambda: self._request(message))
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == httpx.codes.CREATED:
            if not isinstance(body.get("sid"), str):
                raise SendFailed(SendFault.DAMAGED, detail="201 without a sid")
            return
        code = body.get("code")
        raise SendFailed(_fault(answer.status, code), detail=f"{answer.status}, error {str(code)[:20]}")

    def _request(self, message: Message) -> httpx.Request:
        resource = "Calls" if message.channel is Channel.VOICE else "Messages"
        address = f"{self.url}/2010-04-01/Accounts/{self.account}/{resource}.json"
        return self.http.build_request(
            "POST", address, data=self._form(message), headers={"Authorization": self._authorization()}
        )

    def _form(self, message: Message) -> dict[str, str]:
        if message.channel is Channel.VOICE:
            return {
                "To": message.to,
                "From": self.voice_sender,
                "Twiml": question(message.text, f"{self.callback}{ANSWERS}{message.answer}"),
                "Timeout": str(RING_SECONDS),
                "TimeLimit": str(CALL_SECONDS),
                # Without StatusCallbackEvent it is told of the end only, however the call has ended.
                **self._told(CALLS, message.answer),
            }
        told = self._told(REPORTS, message.reference)
        if message.channel is Channel.SMS:
            return {"To": message.to, "From": self.sender, "Body": message.text, **told}
        form = {"To": f"whatsapp:{message.to}", "From": f"whatsapp:{self.whatsapp_sender}", **told}
        if not self.template:
            return {**form, "Body": message.text}
        return {**form, "ContentSid": self.template, "ContentVariables": json.dumps({"1": message.code})}

    def _told(self, path: str, name: str) -> dict[str, str]:
        return {"StatusCallback": f"{self.callback}{path}{name}"} if self.reports else {}

    def _authorization(self) -> str:
        request = httpx.Request("GET", self.url)
        flow = httpx.BasicAuth(self.account, self.token).auth_flow(request)
        return next(flow).headers["Authorization"]


def question(text: str, answers: str) -> str:
    """TwiML that says `text` twice and posts the key that is pressed, # included, to `answers`."""
    response = ElementTree.Element("Response")
    waiting = {"numDigits": "1", "finishOnKey": "", "timeout": str(_KEY_SECONDS), "action": answers, "method": "POST"}
    gather = ElementTree.SubElement(response, "Gather", waiting)
    _say(gather, text)
    ElementTree.SubElement(gather, "Pause", {"length": "2"})
    _say(gather, text)
    _say(response, "No key was pressed. Goodbye.")
    return ElementTree.tostring(response, "unicode")


def spoken(text: str) -> str:
    """TwiML that says `text`, after which the call ends."""
    response = ElementTree.Element("Response")
    _say(response, text)
    return ElementTree.tostring(response, "unicode")


def _say(parent: ElementTree.Element, text: str) -> None:
    ElementTree.SubElement(parent, "Say", {"language": _LANGUAGE}).text = text


def is_recipient(code: object) -> bool:
    """Whether an error says that this number can't be reached by this channel."""
    return code in _RECIPIENT


def _fault(status: int, code: object) -> SendFault:
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return SendFault.LIMITED
    return SendFault.RECIPIENT if is_recipient(code) else SendFault.REFUSED
