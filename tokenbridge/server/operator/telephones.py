"""Telephone numbers, phone apps and the development outbox, as an operator sees them. Numbers are masked here too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenbridge.errors import BadRequest
from tokenbridge.rp.proof import Method
from tokenbridge.server import numbers
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.telling import telling
from tokenbridge.server.senders.outbox import Outbox
from tokenbridge.server.store import accounts, phone_apps, phones, sessions
from tokenbridge.server.store.phone_app_schema import PhoneApp


@dataclass(frozen=True, slots=True, kw_only=True)
class Telephone:
    id: int
    username: str
    number: str
    methods: tuple[str, ...]


def listed(office: Office, username: str) -> list[Telephone]:
    """Raises `BadRequest` for an unknown user."""
    with office.database.read() as tx:
        account = accounts.get(tx, username)
        context = numbers.context(account.id)
        return [
            Telephone(
                id=row.id,
                username=account.username,
                number=numbers.masked(office.ring.decrypt(row.number, context=context).decode()),
                methods=tuple(sorted(map(str, phones.methods(row)))),
            )
            for row in phones.of(tx, account.id)
        ]


def remove(office: Office, username: str, phone_id: int) -> int:
    """Remove a number, of a lost telephone for instance; the account's sessions end. Returns how many."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        if phones.get(tx, phone_id, account.id) is None:
            raise BadRequest(
                f"{account.username} has no number {phone_id}.", next_step="See `tokenbridge server phone list`."
            )
        phones.remove(tx, phone_id)
        ended = sessions.end_all(tx, account.id, office.now())
        office.record(tx, "phone-removed", account.username, phone=phone_id, sessions_ended=ended)
    with telling(office) as notices:
        notices.removed(account, Method.SMS)
    return ended


def apps(office: Office, username: str) -> list[PhoneApp]:
    """The confirmed phone apps. Raises `BadRequest` for an unknown user."""
    with office.database.read() as tx:
        return phone_apps.of(tx, accounts.get(tx, username).id)


def remove_app(office: Office, username: str, app_id: int) -> int:
    """As `remove`."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        if phone_apps.get(tx, app_id, account.id) is None:
            raise BadRequest(
                f"{account.username} has no phone app {app_id}.", next_step="See `tokenbridge server phone apps`."
            )
        phone_apps.remove(tx, app_id)
        ended = sessions.end_all(tx, account.id, office.now())
        office.record(tx, "phone-app-removed", account.username, phone_app=app_id, sessions_ended=ended)
    with telling(office) as notices:
        notices.removed(account, Method.NUMBER_MATCH)
    return ended


def messages(office: Office) -> list[dict[str, Any]]:
    """What the development outbox holds, the newest first. Raises `BadRequest` when it is off."""
    if not office.settings.outbox:
        raise BadRequest(
            "This server has no development outbox.", next_step="Set outbox = true, on a server on loopback only."
        )
    book = KeyBook(office.settings.key_file)
    return Outbox(database=office.database, keys=book, clock=office.now).listed()
