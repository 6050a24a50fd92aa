"""Groups, as an operator changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenbridge.errors import BadRequest
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import accounts, groups
from tokenbridge.server.store.schema import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a group. `changed` names the accounts that were put in or taken out."""

    group: str
    changed: tuple[str, ...]


def add(office: Office, name: str, usernames: Sequence[str]) -> Change:
    """Put accounts into a group; who is in it already stays. Raises `BadRequest` for an unknown user: none is added."""
    group = groups.normal(name)
    with office.database.write() as tx:
        found = [accounts.get(tx, username) for username in usernames]
        changed = tuple(account.username for account in found if groups.add(tx, account.id, group))
        for username in changed:
            office.record(tx, "group-joined", username, name=group)
    return Change(group=group, changed=changed)


def remove(office: Office, name: str, usernames: Sequence[str]) -> Change:
    """Take accounts out of a group. Raises `BadRequest` for an unknown user: none is taken out."""
    group = groups.normal(name)
    with office.database.write() as tx:
        found = [accounts.get(tx, username) for username in usernames]
        changed = tuple(account.username for account in found if groups.remove(tx, account.id, group))
        for username in changed:
            office.record(tx, "group-left", username, name=group)
    return Change(group=group, changed=changed)


def listed(office: Office) -> list[tuple[str, int]]:
    with office.database.read() as tx:
        return groups.counted(tx)


def members(office: Office, name: str) -> list[Account]:
    """Raises `BadRequest` when nobody is in such a group."""
    with office.database.read() as tx:
        found = groups.members(tx, groups.normal(name))
    if not found:
        raise BadRequest(f"Nobody is in a group {name!r}.", next_step="See `tokenbridge server group list`.")
    return found
