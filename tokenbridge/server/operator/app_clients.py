"""Programs that check app passwords, and people's app passwords, as an operator handles them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenbridge.errors import BadRequest
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys
from tokenbridge.server.app_passwords import describe
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.telling import telling
from tokenbridge.server.store import accounts, app_passwords


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A client's secret, to be shown once. `rule`: what the policy needs so that the client lets anybody in."""

    client: str
    secret: str
    rule: str


def add(office: Office, name: str) -> NewSecret:
    """Raises `BadRequest` for a name that can't be one or is taken."""
    secret = keys.new_token()
    with office.database.write() as tx:
        app_passwords.add_client(tx, name, keys.hash_token(secret), office.now())
        office.record(tx, "app-client-added", name=name)
    return _shown(name, secret)


def renew(office: Office, name: str) -> NewSecret:
    """Make a new secret; the old one is void."""
    secret = keys.new_token()
    with office.database.write() as tx:
        app_passwords.get_client(tx, name).secret_hash = keys.hash_token(secret)
        office.record(tx, "app-client-renewed", name=name)
    return _shown(name, secret)


def remove(office: Office, name: str) -> None:
    """Remove a client with every app password that was made for it."""
    with office.database.write() as tx:
        app_passwords.remove_client(tx, app_passwords.get_client(tx, name).id)
        office.record(tx, "app-client-removed", name=name)


def listed(office: Office) -> list[dict[str, Any]]:
    with office.database.read() as tx:
        return [
            {"name": row.name, "app_passwords": count, "created_at": row.created_at.isoformat()}
            for row, count in app_passwords.clients(tx)
        ]


def passwords_of(office: Office, username: str) -> list[dict[str, Any]]:
    with office.database.read() as tx:
        account = accounts.get(tx, username)
        return [describe(row, client) for row, client in app_passwords.of(tx, account.id)]


def revoke(office: Office, username: str, password_id: int | None) -> int:
    """Revoke one app password of a person, or all of them; returns how many."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        if password_id is None:
            count = app_passwords.revoke_all(tx, account.id, office.now())
        else:
            found = app_passwords.revoke(tx, account.id, password_id, office.now())
            if found is None:
                raise BadRequest(
                    f"{account.username} has no app password {password_id}.",
                    next_step=f"See `tokenbridge server app-password list {account.username}`.",
                )
            count = 1
        office.record(tx, "app-password-revoked", account.username, count=count)
    if count:
        with telling(office) as notices:
            notices.removed(account, Method.APP_PASSWORD)
    return count


def _shown(name: str, secret: str) -> NewSecret:
    rule = f'[[rule]]\nname = "app passwords at {name}"\nclients = ["{name}"]\naal = 1\n'
    return NewSecret(client=name, secret=secret, rule=rule)
