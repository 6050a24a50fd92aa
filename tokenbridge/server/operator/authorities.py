"""Trust anchors, as an operator adds and removes them."""

from __future__ import annotations

from tokenbridge.errors import BadRequest
from tokenbridge.server import trust
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor


def add(office: Office, anchor: Anchor) -> None:
    """Raises `SetupError` when its certificates can't be used, `BadRequest` when the name is taken."""
    trust.build([anchor])
    with office.database.write() as tx:
        anchors.add(tx, anchor, office.now())
        trust.build(anchors.listed(tx))
        office.record(tx, "trust-added", name=anchor.name, rule=anchor.rule())


def listed(office: Office) -> list[Anchor]:
    with office.database.read() as tx:
        return anchors.listed(tx)


def remove(office: Office, name: str) -> None:
    """Raises `BadRequest` when there is no anchor of that name."""
    with office.database.write() as tx:
        if not anchors.remove(tx, name):
            raise BadRequest(f"There is no trust anchor {name!r}.", next_step="See `tokenbridge server trust list`.")
        office.record(tx, "trust-removed", name=name)
