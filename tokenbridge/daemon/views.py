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
from tokenbridge.fido.credentials import Stored, StoredCredential
from tokenbridge.fido.fingerprints import Finger
from tokenbridge.fido.info import KeyFacts
from tokenbridge.fido.pin import Tries
from tokenbridge.transport.base import DeviceEvent, KeyPlace


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


def keys(current: Picture) -> list[dict[str, Any]]:
    """The keys that are plugged in, as the system describes them; none is opened."""
    return [{**place(key.place), "used_by": key.claimed_by} for key in current.keys.values()]


def place(where: KeyPlace) -> dict[str, Any]:
    return {
        "path": where.path,
        "name": where.name,
        "serial": where.serial,
        "vendor": f"{where.vendor:04x}",
        "product": f"{where.product:04x}",
        "usable": where.usable,
    }


def key(where: KeyPlace, facts: KeyFacts, tries: Tries | None, *, used_by: str = "") -> dict[str, Any]:
    """A key and what it says about itself; `tries` when they were asked for."""
    left = {} if tries is None else {"tries_left": tries.left, "replug_first": tries.paused}
    return {**place(where), "used_by": used_by, **key_facts(facts), **left}


def key_facts(facts: KeyFacts) -> dict[str, Any]:
    return {
        "versions": list(facts.versions),
        "aaguid": facts.aaguid,
        "firmware": facts.firmware,
        "pin": "set" if facts.has_pin else ("not set" if facts.takes_pin else "none"),
        "min_pin_length": facts.min_pin_length,
        "must_change_pin": facts.force_pin_change,
        "fingerprints": "enrolled" if facts.has_built_in else ("none yet" if facts.takes_fingerprints else "no sensor"),
        "always_verify": facts.always_uv,
        "keeps_credentials": facts.keeps_credentials,
        "rooms_left": facts.rooms_left,
        "extensions": list(facts.extensions),
        "options": facts.options,
    }


def unusable_key(where: KeyPlace, error: TokenbridgeError) -> dict[str, Any]:
    return {**place(where), "error": error.as_dict()}


def credentials(found: Stored) -> dict[str, Any]:
    return {"credentials": [credential(item) for item in found.credentials], "rooms_left": found.rooms_left}


def credential(item: StoredCredential) -> dict[str, Any]:
    return {
        "id": item.id.hex(),
        "rp_id": item.rp_id,
        "account": item.account,
        "display_name": item.display_name,
        "protection": item.protection,
    }


def finger(item: Finger) -> dict[str, str]:
    return {"id": item.id.hex(), "name": item.name}


def event(happened: DeviceEvent) -> dict[str, Any]:
    shown: dict[str, Any] = {"event": str(happened.kind)}
    if happened.key is not None:
        shown |= place(happened.key)
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
