"""Tells people by e-mail what an operator changed about how they sign in. What does not get out stops no command."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tokenbridge import log
from tokenbridge.errors import SetupError
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.notices import Notices
from tokenbridge.server.operator.office import Office
from tokenbridge.server.senders import choice
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.senders.port import Senders

_log = log.get("server")


@contextmanager
def telling(office: Office) -> Iterator[Notices]:
    """What is told in this block was sent, or given up and logged, when it ends: the command ends after it."""
    with ThreadPoolExecutor(1) as worker:
        yield Notices(senders=_mail(office), worker=worker, name=office.settings.name, site=office.settings.site)


def _mail(office: Office) -> Senders:
    outbox = Outbox(database=office.database, keys=KeyBook(office.settings.key_file), clock=office.now)
    try:
        return choice.mail_of(office.settings, outbox)
    except SetupError as err:
        _log.warning("a notice was not sent: %s", err.message)
        return Senders({})
