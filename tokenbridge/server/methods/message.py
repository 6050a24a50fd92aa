"""Six digits in a text or WhatsApp message as a fallback method."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from tokenbridge.errors import NotAllowedNow, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys, numbers
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.message_limits import MessageLimits
from tokenbridge.server.methods.base import Case, Outgoing, Setup
from tokenbridge.server.numbers import NumberRules
from tokenbridge.server.senders.port import Channel, Message
from tokenbridge.server.store import phones, sent_codes
from tokenbridge.server.store.method_schema import Phone
from tokenbridge.server.store.phones import NewPhone
from tokenbridge.server.store.sent_codes import NewCode, Stage

DIGITS: Final = 6  # SP 800-63B-4 section 3.1.3.2


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageMethod:
    """`site` is the origin that the code is for; `also` is by what else a number of this method may be reached."""

    method: Method
    keys: KeyBook
    rules: NumberRules
    limits: MessageLimits
    name: str
    site: str
    also: frozenset[Method] = frozenset()

    def enrol(self, case: Case, given: str) -> Setup:
        """`given` is the number. Raises `NumberUnfit`, `NotAllowedNow` or `TooMany`."""
        number, ring = self.rules.read(given), self.keys.ring()
        hashed, known = ring.seal(numbers.sealed_bytes(number.e164)), phones.of(case.tx, case.account)
        if len(known) >= phones.MOST or any(row.number_hash == hashed for row in known):
            raise NotAllowedNow(
                "This number is set up already, or there are enough of them.", next_step="Remove one first."
            )
        new = NewPhone(
            number=ring.encrypt(number.e164.encode(), context=numbers.context(case.account)),
            number_hash=hashed,
            text=Method.SMS in {self.method, *self.also},
            whatsapp=Method.WHATSAPP in {self.method, *self.also},
        )
        row = phones.add(case.tx, case.account, new, case.now)
        outgoing = self._reserve(replace(case, ref=setup_ref(case.account), allowed=self.also), row)
        return Setup(shown={"phone": row.id}, outgoing=outgoing)

    def confirm(self, case: Case, code: str) -> str:
        ref = setup_ref(case.account)
        problem = self._compare(case, ref, code)
        sent = sent_codes.newest(case.tx, ref)
        if problem or sent is None or sent.phone_id is None:
            return problem or "nothing was sent"
        return "" if phones.confirm(case.tx, sent.phone_id, case.now) else "confirmed before"

    def start(self, case: Case) -> Outgoing:
        row = phones.reached_by(case.tx, case.account, self.method)
        if row is None:
            raise NotAllowedNow("There is no number for that.", next_step="Use another method.")
        return self._reserve(case, row)

    def follow(self, case: Case, phone_id: int) -> Outgoing:
        """Send a new code to the number that another method has not reached. Raises `NotAllowedNow` where that number
        takes nothing by this method, and `TooMany`."""
        row = phones.get(case.tx, phone_id, case.account)
        if row is None or self.method not in phones.methods(row):
            raise NotAllowedNow("This number takes no text messages.", next_step="Use another method.")
        return self._reserve(case, row)

    def check(self, case: Case, code: str) -> str:
        return self._compare(case, case.ref, code)

    def _reserve(self, case: Case, row: Phone) -> Outgoing:
        free = sent_codes.free_at(case.tx, case.account, case.now)
        if free > case.now:
            seconds = math.ceil((free - case.now).total_seconds())
            raise TooMany("A message was sent a short time ago.", seconds=seconds)
        self.limits.count(case, row)
        code, reference = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}", keys.new_token()
        by_text = self.method is Method.WHATSAPP and Method.SMS in case.allowed & self.also
        new = NewCode(
            account_id=case.account,
            ref=case.ref,
            method=self.method,
            phone_id=row.id,
            code_hash=self.keys.ring().seal(self._bound(case.ref, code)),
            reference=keys.hash_token(reference),
            instead=str(Method.SMS) if by_text else "",
        )
        number = self.keys.ring().decrypt(row.number, context=numbers.context(case.account)).decode()
        return Outgoing(
            code_id=sent_codes.reserve(case.tx, new, case.now),
            phone_id=row.id,
            method=self.method,
            message=Message(
                channel=Channel(str(self.method)), to=number, text=self._text(code), code=code, reference=reference
            ),
            sent_to=numbers.masked(number),
            resend_at=sent_codes.free_at(case.tx, case.account, case.now),
            expires_at=case.now + sent_codes.LIFETIME,
        )

    def _compare(self, case: Case, ref: str, code: str) -> str:
        row = sent_codes.newest(case.tx, ref)
        if row is None or row.phone_id is None or row.method != self.method:
            return "nothing was sent"
        if not sent_codes.count_try(case.tx, row.id, case.now):
            return "code used before, too old, or tried too often"
        if not self.keys.ring().sealed(self._bound(ref, code.replace(" ", "")), row.code_hash):
            return "wrong code"
        return "" if sent_codes.mark(case.tx, row.id, Stage.SENT, Stage.USED) else "code used before"

    def _bound(self, ref: str, code: str) -> bytes:
        """What is hashed: a code is good for one sign-in and one method only."""
        return f"sent code:{self.method}:{ref}:{code}".encode("utf-8", "surrogatepass")

    def _text(self, code: str) -> str:
        """Ends with the origin-bound form (WICG, "Origin-bound one-time codes delivered via SMS", section 2)."""
        host = urlsplit(self.site).hostname or ""
        return (
            f"{code} is your security code for {self.name}. Do not share it with anybody, we never ask for it.\n\n"
            f"@{host} #{code}"
        )


def setup_ref(account: int) -> str:
    """What a code that confirms a number belongs to."""
    return keys.hash_token(f"set-up:{account}")
