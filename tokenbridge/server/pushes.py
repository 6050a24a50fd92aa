"""Lets telephones know that somebody signs in. A push that does not get out stops nothing: the app asks by itself."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Final

from tokenbridge import log
from tokenbridge.errors import TokenbridgeError
from tokenbridge.server import push_keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.senders.web_push import WebPush
from tokenbridge.server.store import phone_apps
from tokenbridge.server.store.database import Database

MOST_WAITING: Final = 200
CONTENT: Final = b'{"kind":"sign-in"}'
"""All that a push says: neither who, nor where, nor the number."""

_log = log.get("server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A telephone's subscription, as it is stored."""

    phone_app: int
    account: int
    subscription: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushes:
    """`worker` is a pool of their own: a slow push service holds up neither messages nor sign-ins. What would make its
    queue longer than `MOST_WAITING` is dropped, and the log says so."""

    database: Database
    keys: KeyBook
    sender: WebPush
    worker: ThreadPoolExecutor
    waiting: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_WAITING))

    def tell(self, targets: Sequence[Target]) -> None:
        """Returns at once."""
        for target in targets:
            if not self.waiting.acquire(blocking=False):
                _log.warning("a push was not sent: %d are waiting already", MOST_WAITING)
                return
            self.worker.submit(self._send, target)

    def _send(self, target: Target) -> None:
        try:
            subscription = push_keys.opened(self.keys.ring(), target.subscription, target.account)
            if not self.sender.send(subscription, CONTENT):
                with self.database.write() as tx:
                    phone_apps.unsubscribe(tx, target.phone_app, target.subscription)
        except TokenbridgeError as err:
            _log.warning("a push was not sent: %s", err.detail)
        except Exception:  # noqa: BLE001 - the end of a thread's work: nobody else would see it
            _log.exception("a push was not sent")
        finally:
            self.waiting.release()
