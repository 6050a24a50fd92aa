"""One account as an operator sees it: what it is, and what it signs in with. It changes nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

from tokenbridge.server import suspending, trust
from tokenbridge.server.key_desk import describe
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.security_keys import models_of
from tokenbridge.server.store import accounts, anchors, cards, groups, recovery, roles, security_keys, sessions


def view(office: Office, username: str) -> dict[str, Any]:
    """JSON types. `methods` are those that work now; `issuers` those by whose word the account is known, with when such
    cards were suspended. Raises `BadRequest` for an unknown user."""
    models, now = models_of(office), office.now()
    with office.database.read() as tx:
        account = accounts.get(tx, username)
        known = trust.build(anchors.listed(tx))
        return {
            "username": account.username,
            "display_name": account.display_name,
            "email": account.email,
            "nhs_uid": account.nhs_uid,
            "upn": account.upn,
            "organisation": account.organisation,
            "disabled": account.disabled,
            "password": account.password_hash is not None,
            "groups": sorted(groups.of(tx, account.id)),
            "roles": [str(grant) for grant in roles.of(tx, account.id)],
            "methods": sorted(map(str, accounts.enrolled(tx, account.id))),
            "recovery_codes_left": recovery.left(tx, account.id),
            "keys": [describe(row, models, now) for row in security_keys.of(tx, account.id)],
            "cards": [
                {"id": row.id, "subject": row.subject, "label": row.label, "suspended_at": _told(row.suspended_at)}
                for row, _ in cards.listed(tx, account.id)
            ],
            "issuers": [
                {"name": device.issuer, "suspended_at": _told(device.since)}
                for device in suspending.recognised(tx, account, known)
            ],
            "sessions": len(sessions.alive(tx, account.id, now)),
        }


def _told(at: dt.datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
