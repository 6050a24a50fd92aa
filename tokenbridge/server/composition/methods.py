"""The fallback methods of this server, and by what they reach people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tokenbridge.rp.proof import Method
from tokenbridge.server import message_limits
from tokenbridge.server.approvals import Approvals
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.methods.base import FallbackMethod
from tokenbridge.server.methods.message import MessageMethod
from tokenbridge.server.methods.number_match import NumberMatchMethod
from tokenbridge.server.methods.recovery import RecoveryMethod
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.methods.voice import VoiceMethod
from tokenbridge.server.push_keys import PushKeys, services_of
from tokenbridge.server.pushes import Pushes
from tokenbridge.server.senders import choice, http
from tokenbridge.server.senders.port import Channel, Senders
from tokenbridge.server.senders.web_push import WebPush
from tokenbridge.server.settings import Settings
from tokenbridge.server.store.database import Database

_TELEPHONE: Final = (Channel.SMS, Channel.WHATSAPP)


def fallback_methods(
    settings: Settings, book: KeyBook, senders: Senders, pushes: Pushes
) -> dict[Method, FallbackMethod]:
    """The methods of this server: messages only where something can send them. Raises `SetupError`."""
    rules, limits = choice.rules_of(settings), message_limits.limits_of(settings)
    found: dict[Method, FallbackMethod] = {
        Method.TOTP: TotpMethod(keys=book, issuer=settings.name),
        Method.RECOVERY: RecoveryMethod(),
        Method.NUMBER_MATCH: NumberMatchMethod(questions=Approvals(keys=book), pushes=pushes),
    }
    ways = frozenset(Method(str(channel)) for channel in _TELEPHONE if senders.has(channel))
    for method in ways:
        found[method] = MessageMethod(
            method=method,
            keys=book,
            rules=rules,
            limits=limits,
            name=settings.name,
            site=settings.site,
            also=ways - {method},
        )
    if ways and senders.has(Channel.VOICE):
        found[Method.VOICE] = VoiceMethod(
            questions=Approvals(keys=book), keys=book, senders=senders, limits=limits, name=settings.name
        )
    return found


def pushes_of(settings: Settings, database: Database, book: KeyBook, worker: ThreadPoolExecutor) -> Pushes:
    sender = WebPush(
        http=http.client(settings.tls_dir / "ca.pem" if settings.outbox else None),
        keys=PushKeys(database=database, keys=book),
        services=services_of(settings),
        contact=settings.push_contact or settings.site,
    )
    return Pushes(database=database, keys=book, sender=sender, worker=worker)
