"""Security keys, enrolment codes and recovery codes, as an operator handles them."""

from __future__ import annotations

from typing import Any

from tokenbridge.errors import BadRequest, LastFactor
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.proof import Method
from tokenbridge.server.administration import acts
from tokenbridge.server.administration.acts import NewCode
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_desk import describe
from tokenbridge.server.key_enrolment import clean_name
from tokenbridge.server.methods.recovery import new_set
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.telling import telling
from tokenbridge.server.store import accounts, security_keys, sessions


def models_of(office: Office) -> KeyModels:
    """The rules in force. Raises `SetupError`."""
    return KeyModelBook(office.database, office.settings).current()


def new_enrolment_code(office: Office, username: str, hours: int) -> NewCode:
    """Make a code with which this person may register one key; one that was there is void."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        made = acts.new_code(tx, account, office.now(), hours)
        office.record(tx, "enrolment-code-made", made.username, expires_at=made.expires_at.isoformat())
    with telling(office) as notices:
        notices.code_made(account)
    return made


def new_recovery_codes(office: Office, username: str) -> tuple[str, ...]:
    """Ten new codes, to be shown once; older ones are void."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        made = new_set(tx, account.id, office.now())
        office.record(tx, "recovery-codes-made", account.username)
    with telling(office) as notices:
        notices.added(account, Method.RECOVERY)
    return made


def keys_of(office: Office, username: str | None) -> list[dict[str, Any]]:
    """Keys of one user or of all, as `key_desk.describe` tells them, with `username`."""
    models = models_of(office)
    with office.database.read() as tx:
        account = accounts.get(tx, username) if username else None
        rows = security_keys.listed(tx, account.id if account else None)
    return [{**describe(row, models, office.now()), "username": owner} for row, owner in rows]


def rename(office: Office, key_id: int, name: str) -> str:
    """Returns the name as it is stored. Raises `BadRequest`."""
    wanted = clean_name(name)
    with office.database.write() as tx:
        row, owner = _find(tx, key_id)
        row.name = wanted
        office.record(tx, "key-renamed", owner, key=key_id, name=wanted)
    return wanted


def remove(office: Office, key_id: int, *, last: bool = False) -> str:
    """Forget a key and end its owner's sessions; returns the owner's name. Raises `BadRequest`, or `LastFactor` unless
    `last` says that nothing but the password may be left."""
    with office.database.write() as tx:
        row, owner = _find(tx, key_id)
        account_id, name = row.account_id, row.name
        security_keys.remove(tx, key_id)
        if not accounts.enrolled(tx, account_id) - {Method.RECOVERY} and not last:
            raise LastFactor(
                f"This is the last thing that {owner} signs in with beside a password.",
                next_step="Make an enrolment code for a new key first, or remove it all the same with --last.",
            )
        ended = sessions.end_all(tx, account_id, office.now())
        office.record(tx, "key-removed", owner, key=key_id, name=name, sessions_ended=ended)
        account = accounts.get(tx, owner)
    with telling(office) as notices:
        notices.removed(account, Method.KEY)
    return owner


def _find(tx: Any, key_id: int) -> tuple[Any, str]:
    found = next((pair for pair in security_keys.listed(tx) if pair[0].id == key_id), None)
    if found is None:
        raise BadRequest(f"There is no key {key_id}.", next_step="See `tokenbridge server key list`.")
    return found
