"""A voice call as a fallback method: the person hears who asks, and presses # to confirm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tokenbridge.errors import NotAllowedNow
from tokenbridge.rp.proof import Method
from tokenbridge.server import numbers
from tokenbridge.server.approvals import Approvals
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.message_limits import MessageLimits
from tokenbridge.server.methods.base import Case, Question
from tokenbridge.server.senders.port import Channel, Message, Senders
from tokenbridge.server.store import phones


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceMethod:
    """Calls a number that a text or WhatsApp message has confirmed. A mailbox can't press a key."""

    questions: Approvals
    keys: KeyBook
    senders: Senders
    limits: MessageLimits
    name: str

    def start(self, case: Case) -> Question:
        row = phones.reached_by(case.tx, case.account, Method.VOICE)
        if row is None:
            raise NotAllowedNow("There is no number for that.", next_step="Use another method.")
        self.limits.count(case, row)
        number = self.keys.ring().decrypt(row.number, context=numbers.context(case.account)).decode()
        tell = partial(self._call, number)
        return self.questions.ask(case, Method.VOICE, tell, sent_to=numbers.masked(number), numbered=False)

    def _call(self, number: str, handle: str) -> None:
        self.senders.send(Message(channel=Channel.VOICE, to=number, text=self._text(), answer=handle))

    def _text(self) -> str:
        return (
            f"This is {self.name}. Somebody is using your account, and we have to know whether it is you. "
            "If it is you, press the hash key. If it is not you, press the star key."
        )
