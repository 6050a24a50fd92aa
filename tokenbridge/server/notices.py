"""Tells people by e-mail that how they sign in was changed. A notice that does not get out stops nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Final

from tokenbridge import log
from tokenbridge.errors import SendFailed
from tokenbridge.rp.proof import Method
from tokenbridge.rp.wording import NAMES
from tokenbridge.server.senders.port import Channel, Message, Senders
from tokenbridge.server.store.schema import Account

MOST_WAITING: Final = 500

_log = log.get("server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """`worker` is a pool of their own: a slow mail server must not hold up codes. What would make its queue longer than
    `MOST_WAITING` is dropped, and the log says so."""

    senders: Senders
    worker: ThreadPoolExecutor
    name: str
    site: str
    waiting: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_WAITING))

    def added(self, account: Account, method: Method) -> None:
        self._tell(account, f"{NAMES[method]} was set up".capitalize())

    def removed(self, account: Account, method: Method) -> None:
        self._tell(account, f"{NAMES[method]} was removed".capitalize())

    def _tell(self, account: Account, what: str) -> None:
        if account.email is None or not self.senders.has(Channel.MAIL):
            return
        text = (
            f"{what} for your sign-in at {self.name} ({self.site}).\n\n"
            "If this was you, there is nothing to do. If it was not, tell your IT service desk at once.\n"
        )
        message = Message(channel=Channel.MAIL, to=account.email, subject=f"{self.name}: {what.lower()}", text=text)
        if not self.waiting.acquire(blocking=False):
            _log.warning("a notice was not sent: %d are waiting already", MOST_WAITING)
            return
        self.worker.submit(self._send, message)

    def _send(self, message: Message) -> None:
        try:
            self.senders.send(message)
        except SendFailed as err:
            _log.warning("a notice was not sent: %s", err.detail)
        finally:
            self.waiting.release()
