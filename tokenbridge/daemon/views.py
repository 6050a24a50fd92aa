"""What the API shows of devices: plain JSON, no secret, names as in the API's documentation."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tokenbridge.card import certificates
from tokenbridge.card.base import CardCertificate, CardSnapshot
from tokenbridge.daemon.devices import Picture
from tokenbridge.errors import TokenbridgeError
from tokenbridge.transport.base import DeviceEvent


def picture(current: Picture) -> list[dict[str, Any]]:
    """Readers, each with what is in it."""
    return [
        {
            "reader": reader,
            "card": reader in current.cards,
            "atr": current.cards[reader].atr.hex().upper() if reader in current.cards else "",
            "used_by": current.cards[reader].claimed_by if reader in current.cards else "",
        }
        for reader in current.readers
    ]


def event(happened: DeviceEvent) -> dict[str, Any]:
    shown: dict[str, Any] = {"event": str(happened.kind)}
    if happened.reader:
        shown["reader"] = happened.reader
    if happened.atr:
        shown["atr"] = happened.atr.hex().upper()
    if happened.reason:
        shown["reason"] = happened.reason
    return shown


def card(snapshot: CardSnapshot, now: datetime) -> dict[str, Any]:
    shown = [certificate(item, now) for item in snapshot.certificates.values()]
    return {
        "reader": snapshot.reader,
        "atr": snapshot.atr.hex().upper(),
        "application": "PIV",
        "guid": snapshot.guid,
        "holder": snapshot.holder,
        "pin": snapshot.pin_reference.name.lower(),
        "tries_left": snapshot.tries_left,
        "pin_pad": snapshot.on_reader,
        "certificates": shown,
    }


def unusable(reader: str, atr: bytes, error: TokenbridgeError) -> dict[str, Any]:
    return {"reader": reader, "atr": atr.hex().upper(), "application": "", "error": error.as_dict()}


def certificate(item: CardCertificate, now: datetime) -> Mapping[str, Any]:
    facts = item.facts
    shown: dict[str, Any] = {
        "slot": f"{item.slot.value:02X}",
        "purpose": item.slot.name.lower().replace("_", "-"),
        "fitness": str(certificates.fitness(item, (), now)),
        "pem": ssl.DER_cert_to_PEM_cert(item.der),
    }
    if facts is not None:
        shown |= {
            "subject": facts.subject,
            "common_name": facts.common_name,
            "issuer": facts.issuer,
            "serial": f"{facts.serial:X}",
            "not_before": facts.not_before.isoformat(),
            "not_after": facts.not_after.isoformat(),
            "key": str(facts.key) if facts.key is not None else "unsupported",
        }
    return shown
