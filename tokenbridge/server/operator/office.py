"""Sets a server up and opens what an operator works with. It answers no requests."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from tokenbridge.errors import SetupError
from tokenbridge.server import keys, numbers, push_keys, settings, tls, totp
from tokenbridge.server.keys import KeyRing
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import accounts, approvals, audit, code_sheets, phone_apps, phones, server_keys
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.method_schema import OutboxMessage, PendingApp
from tokenbridge.server.store.phone_app_schema import PhoneEnrolment
from tokenbridge.server.store.upgrade import upgrade
from tokenbridge.server.tls import TlsFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """An opened data directory."""

    settings: Settings
    database: Database
    ring: KeyRing

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def record(self, tx: Session, event: str, account: str = "", **detail: Any) -> None:
        """Audit what the operator does, in the same transaction."""
        detail["operator_uid"] = os.getuid()
        audit.append(tx, self.now(), audit.Event(event=event, account=account, detail=detail), self.ring)


@contextmanager
def opened(data: Path | None) -> Iterator[Office]:
    """The office of a data directory. Raises `SetupError` when it was never set up."""
    found = settings.load(data)
    if not found.key_file.exists():
        raise SetupError(f"There is no server in {found.data}.", next_step="Run `tokenbridge server init` first.")
    ring, database = keys.load(found.key_file), Database(found.database_url)
    try:
        yield Office(settings=found, database=database, ring=ring)
    finally:
        database.close()


def initialise(data: Path | None, **changes: Any) -> tuple[Settings, TlsFiles | None]:
    """Make or complete a data directory; `changes` are settings to write. What is there is kept."""
    base = settings.load(data)
    folder = base.data
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # From the file alone: what only this process's environment says is not written down.
        stored = settings.load(folder, environ={})
        wanted = settings.changed(stored, **changes)
        files = tls.prepare(wanted, dt.datetime.now(dt.UTC))
        settings.write(wanted)
    except OSError as err:
        raise SetupError(f"The data directory {folder} can't be written: {err.strerror}.") from err
    ring, found = keys.create(wanted.key_file), settings.load(data)
    # What the environment says goes before the file, and the new setting before the one that was there.
    database = Database(found.database_url)
    try:
        upgrade(database)
        _seal(Office(settings=found, database=database, ring=ring))
    finally:
        database.close()
    _close_to_others(folder)
    return found, files


def _seal(office: Office) -> None:
    """Seal the audit trail if it never was. Where it had rows already, the trail says so from then on."""
    with office.database.write() as tx:
        if audit.seal_first(tx, office.ring) and audit.entries(tx, limit=1):
            office.record(tx, "audit-sealed")


def _close_to_others(folder: Path) -> None:
    # SQLite makes its companions with the rights of the database file. The settings may hold a database's password.
    for path in (*folder.glob("server.db*"), folder / settings.FILE_NAME):
        path.chmod(0o600)


def rotate_keys(office: Office) -> int:
    """Make a new key and encrypt every secret with it; returns how many. A running server follows by itself.

    The old key leaves the file last: whatever happens in between, every secret can be read.
    """
    ring = office.ring.rotated()
    keys.save(office.settings.key_file, ring)
    renewed = replace(office, ring=ring)
    with office.database.write() as tx:
        rows = accounts.all_totp(tx)
        for row in rows:
            context = totp.context(row.account_id)
            row.secret = ring.encrypt(ring.decrypt(row.secret, context=context), context=context)
        _renew_phones(tx, ring)
        renewed.record(tx, "keys-rotated", secrets=len(rows))  # seals the audit trail with the new key as well
    keys.save(office.settings.key_file, KeyRing(ring.keys[:1]))
    return len(rows)


def _renew_phones(tx: Session, ring: KeyRing) -> None:
    """Numbers, and what pushes need, by the new key. What is open for minutes goes: questions, codes and sheets of
    them, apps that await their confirmation, the outbox."""
    for row in phones.everything(tx):
        context = numbers.context(row.account_id)
        number = ring.decrypt(row.number, context=context)
        row.number = ring.encrypt(number, context=context)
        row.number_hash = ring.seal(numbers.sealed_bytes(number.decode()))
    for app in phone_apps.subscribed(tx):
        assert app.subscription is not None
        app.subscription = push_keys.renew_subscription(ring, app.subscription, app.account_id)
    for key in server_keys.everything(tx):
        key.value = push_keys.renew_key(ring, key.value)
    approvals.withdraw_all(tx)
    tx.execute(delete(PhoneEnrolment))
    tx.execute(delete(PendingApp))
    tx.execute(delete(OutboxMessage))
    code_sheets.forget_all(tx)
