"""How many messages and calls go out in an hour, to an account, to a number and by the whole server. It sends none."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.errors import TooMany
from tokenbridge.server.methods.base import Case
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import throttle
from tokenbridge.server.store.method_schema import Phone
from tokenbridge.server.store.throttle import Limit

MINUTES = 60
ANOTHER = "Use another method"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """`server` is all that a server sends: what somebody with many stolen passwords can make it cost."""

    account: Limit
    number: Limit
    server: Limit

    def count(self, case: Case, row: Phone) -> None:
        """Count a message or call. Raises `TooMany` beyond what an account, a number or the whole server gets."""
        named = ((self.account, str(case.account)), (self.number, row.number_hash), (self.server, ""))
        # All are counted: whoever is held up by one learns nothing about the others.
        full = [limit for limit, name in named if not throttle.allow(case.tx, limit, name, case.now)]
        if full:
            seconds = max(throttle.wait(limit, case.now) for limit in full)
            raise TooMany("Too many messages were sent.", seconds=seconds, instead=ANOTHER)


def limits_of(settings: Settings) -> MessageLimits:
    """As the settings say."""
    return MessageLimits(
        account=Limit(kind="messages-account", most=settings.messages_per_account, minutes=MINUTES),
        number=Limit(kind="messages-number", most=settings.messages_per_number, minutes=MINUTES),
        server=Limit(kind="messages", most=settings.messages_per_hour, minutes=MINUTES),
    )
