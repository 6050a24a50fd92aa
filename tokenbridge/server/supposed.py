"""Evidence that is only supposed: what policy is asked about when nobody signs in. It proves nothing to anybody.

These proofs exist inside `policy explain` and `policy diff`; no sign-in ever sees them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import FALLBACK_METHODS, Factor, Method, Proof
from tokenbridge.rp.wording import NAMES
from tokenbridge.server.holdings import Holding
from tokenbridge.server.people import person
from tokenbridge.server.store.schema import Account

_EPOCH: Final = dt.datetime.fromtimestamp(0, dt.UTC)
_HAVE: Final = frozenset({Factor.POSSESSION})
_HAVE_AND_KNOW: Final = _HAVE | {Factor.KNOWLEDGE}

_STRONG: Final = Proof(
    method=Method.KEY,
    factors=_HAVE_AND_KNOW,
    hardware_bound=True,
    phishing_resistant=True,
    user_verified=True,
    user_present=True,
    credential="supposed",
    at=_EPOCH,
)
_DEVICES: Final = {
    "card": replace(_STRONG, method=Method.CARD),
    "card-without-pin": replace(
        _STRONG, method=Method.CARD, factors=_HAVE, hardware_bound=False, user_verified=False, user_present=False
    ),
    "key": _STRONG,
    "key-fingerprint": replace(_STRONG, factors=_HAVE | {Factor.INHERENCE}),
    "key-synced": replace(_STRONG, hardware_bound=False, synced=True),
    "key-touch": replace(_STRONG, factors=_HAVE, user_verified=False),
}
_OTHERS: Final = {
    str(method): Proof(
        method=method,
        factors=_HAVE if method in FALLBACK_METHODS else frozenset({Factor.KNOWLEDGE}),
        credential="supposed",
        at=_EPOCH,
    )
    for method in Method
    if str(method) not in _DEVICES
}
_KINDS: Final = {**_DEVICES, **_OTHERS}
_MODEL: Final = re.compile(r"(card|key)[a-z-]*:.+")

WORDS: Final = tuple(_KINDS)
"""What can be supposed. Devices may be followed by their model: `card:NAME OF THE TRUST ANCHOR`, `key:AAGUID`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposition:
    """Proofs with a name for people."""

    name: str
    proofs: tuple[Proof, ...]


def evidence(word: str, at: dt.datetime) -> Proof:
    """The proof that `word` stands for, shown at `at`. Raises `BadRequest` for a word that nobody knows."""
    kind, colon, model = word.partition(":")
    found = _KINDS.get(kind)
    if found is None or (colon and not _MODEL.fullmatch(word)):
        raise BadRequest(f"There is no evidence {word!r}.", next_step=f"Known are: {', '.join(WORDS)}.")
    if found.method is Method.CARD:
        return replace(found, at=at, issuer=model)
    if found.method is Method.KEY and model:
        return replace(found, at=at, aaguid=_aaguid(model))
    return replace(found, at=at)


def of_account(tx: Session, account: Account, held: Iterable[Holding], now: dt.datetime) -> Iterator[Supposition]:
    """Every way in which this account can begin today: each device that it has (`held`), the password, the password and
    each method."""
    for holding in held:
        if holding.level is not AAL.NONE and holding.suspended is None:
            yield Supposition(name=f"{NAMES[holding.method]} {holding.name!r}", proofs=(_shown(holding, now),))
    if account.password_hash is None:
        return
    password = evidence(Method.PASSWORD, now)
    yield Supposition(name=NAMES[Method.PASSWORD], proofs=(password,))
    who = person(tx, account.id)
    for method in Method:
        if method in FALLBACK_METHODS and who is not None and method in who.enrolled:
            name = f"{NAMES[Method.PASSWORD]} and {NAMES[method]}"
            yield Supposition(name=name, proofs=(password, evidence(method, now)))


def _shown(holding: Holding, now: dt.datetime) -> Proof:
    if holding.method is Method.CARD:
        kind = "card" if holding.level is AAL.AAL3 else "card-without-pin"
        return replace(_DEVICES[kind], at=now, issuer=holding.issuer)
    kind = {AAL.AAL3: "key", AAL.AAL2: "key-synced"}.get(holding.level, "key-touch")
    return replace(_DEVICES[kind], at=now, aaguid=holding.aaguid)


def _aaguid(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError as err:
        raise BadRequest(f"{text!r} is no AAGUID.", next_step="Write it as in `tokenbridge server key list`.") from err
