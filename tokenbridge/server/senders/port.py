"""What a sender is, and what it is given. docs/methods.md says how to set each one up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from tokenbridge.errors import SendFailed, SendFault


@unique
class Channel(StrEnum):
    SMS = "sms"
    WHATSAPP = "whatsapp"
    VOICE = "voice"
    MAIL = "mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`to` is E.164, or an address for mail, which alone has a `subject`.

    `code` is the code alone, for services that have their own text. The text of a call is spoken, and the key that is
    pressed then is told to the server with `answer`. `reference` is what a report of its delivery calls it.
    """

    channel: Channel
    to: str
    text: str
    code: str = ""
    answer: str = ""
    subject: str = ""
    reference: str = ""

    def __repr__(self) -> str:
        return f"Message({self.channel})"  # neither number nor code gets into a log


class Sender(Protocol):
    """Sends one message and returns when the service has taken it. Raises `SendFailed`. It blocks."""

    def send(self, message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class Senders:
    """The sender of each channel; a channel that is not there can't be used."""

    by_channel: Mapping[Channel, Sender]

    def has(self, channel: Channel) -> bool:
        return channel in self.by_channel

    def send(self, message: Message) -> None:
        """Raises `SendFailed`."""
        sender = self.by_channel.get(message.channel)
        if sender is None:
            raise SendFailed(SendFault.NOT_SET_UP)
        sender.send(message)
