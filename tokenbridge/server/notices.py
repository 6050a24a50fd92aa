"""Tells people by e-mail that how they sign in was changed. A notice that does not get out stops nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Final

from tokenbridge import log
from tokenbridge.errors import SendFailed
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import Signal
from tokenbridge.rp.wording import NAMES
from tokenbridge.server.people import Person
from tokenbridge.server.senders.port import Channel, Message, Senders
from tokenbridge.server.store.schema import Account

MOST_WAITING: Final = 500

_UNUSUAL: Final = {
    Signal.NEW_DEVICE: "from a new device",
    Signal.NEW_NETWORK: "from a new network",
    Signal.NEW_COUNTRY: "from a new country",
    Signal.IMPOSSIBLE_TRAVEL: "from another country shortly after the last one",
    Signal.MANY_FAILURES: "after many failed ones",
}

_THINGS: Final = {
    Method.TOTP: "an authenticator app",
    Method.NUMBER_MATCH: "a phone app",
    Method.SMS: "a phone number",
    Method.RECOVERY: "a set of recovery codes",
    Method.APP_PASSWORD: "an app password",
}
"""What people call that by which a method works; for the others its own name does."""

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
        self._tell(account, f"{_thing(method)} was set up")

    def removed(self, account: Account, method: Method) -> None:
        self._tell(account, f"{_thing(method)} was removed")

    def unusual(self, who: Person, signals: Sequence[Signal], address: str) -> None:
        """A sign-in has succeeded about which something is unusual."""
        noticed = ", ".join(_UNUSUAL[signal] for signal in signals)
        place = f" (from the address {address})" if address else ""
        self._tell(who, f"A sign-in {noticed}{place}")

    def declined(self, account: Account, address: str) -> None:
        """The person has said on the telephone that it was not they: somebody else knows the password, or a code."""
        place = f" (from the address {address})" if address else ""
        self._tell(account, f"Somebody with your password or a code of yours was declined on your phone{place}")

    def switched(self, account: Account, method: Method, *, on: bool) -> None:
        """A phone number is used in one more way, or in one less."""
        self._tell(account, f"The use of a phone number for a {NAMES[method]} was switched {'on' if on else 'off'}")

    def preferred(self, account: Account, method: Method | None) -> None:
        """None: the server chooses what is asked for first."""
        name = NAMES[method] if method is not None else "what this service chooses"
        self._tell(account, f"What you are asked for first when you sign in was changed to: {name}")

    def mfa_enabled(self, account: Account) -> None:
        self._tell(account, "Multi-factor authentication was enabled")

    def code_made(self, account: Account) -> None:
        self._tell(account, "A one-time code to set up a security key or an app was made by your organisation")

    def reset(self, account: Account) -> None:
        self._tell(account, "What you sign in with was reset by your help desk")

    def password_changed(self, account: Account) -> None:
        self._tell(account, "Your password was changed")

    def password_reset(self, account: Account) -> None:
        self._tell(account, "Your password was reset")

    def lost(self, account: Account, what: str) -> None:
        """Things were taken away because they are lost."""
        self._tell(account, f"Removed because it is lost: {what}")

    def suspended(self, account: Account, what: str) -> None:
        self._tell(account, f"Suspended, so that it signs in nowhere: {what}")

    def lifted(self, account: Account, what: str) -> None:
        self._tell(account, f"Signs in again, since the suspension is lifted: {what}")

    def _tell(self, account: Account | Person, what: str) -> None:
        if account.email is None or not self.senders.has(Channel.MAIL):
            return
        text = (
            f"{what}, for your account at {self.name} ({self.site}).\n\n"
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


def _thing(method: Method) -> str:
    name = _THINGS.get(method, f"a {NAMES[method]}")
    return name[0].upper() + name[1:]
