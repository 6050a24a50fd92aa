"""Who administers what, as an operator says it. The pages can't: nobody gives himself or others a role there."""

from __future__ import annotations

from tokenbridge.errors import BadRequest
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import accounts, roles
from tokenbridge.server.store.roles import Grant, Role


def grant(office: Office, username: str, role: Role, organisation: str | None = None) -> bool:
    """Give an account a role, for one organisation or (None) the whole site; False when it has it already.

    Raises `BadRequest` for an unknown user, and for an organisation without a name.
    """
    new = _grant(role, organisation)
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        changed = roles.grant(tx, account.id, new, office.now())
        if changed:
            office.record(tx, "role-granted", account.username, role=str(role), organisation=new.organisation)
    return changed


def revoke(office: Office, username: str, role: Role, organisation: str | None = None) -> None:
    """Take a role back. Raises `BadRequest` for an unknown user, or one who does not have it."""
    old = _grant(role, organisation)
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        if not roles.revoke(tx, account.id, old):
            raise BadRequest(f"{account.username} is not {old}.", next_step="See `tokenbridge server admin list`.")
        office.record(tx, "role-revoked", account.username, role=str(role), organisation=old.organisation)


def _grant(role: Role, organisation: str | None) -> Grant:
    name = accounts.normal_organisation(organisation or "")
    # A variable of a script that is empty must not make somebody administrator of everything.
    if organisation is not None and not name:
        raise BadRequest("The organisation has no name.", next_step="Leave --organisation out for the whole site.")
    return Grant(role=role, organisation=name)


def listed(office: Office) -> list[tuple[str, Grant]]:
    with office.database.read() as tx:
        return roles.listed(tx)
