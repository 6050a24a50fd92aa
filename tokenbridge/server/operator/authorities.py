"""Trust anchors, as an operator adds and removes them."""

from __future__ import annotations

from tokenbridge.server.administration import authorities
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor


def add(office: Office, anchor: Anchor) -> None:
    """Raises as `authorities.check` does, and `BadRequest` when the name is taken."""
    authorities.check(anchor, office.now())
    with office.database.write() as tx:
        office.record(tx, "trust-added", **authorities.add(tx, anchor, office.now()))


def listed(office: Office) -> list[Anchor]:
    with office.database.read() as tx:
        return anchors.listed(tx)


def remove(office: Office, name: str) -> None:
    """Raises `BadRequest` when there is no anchor of that name."""
    with office.database.write() as tx:
        office.record(tx, "trust-removed", **authorities.remove(tx, name))
