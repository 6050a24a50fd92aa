"""What need not be read again from cards seen before: certificates by GUID, in a file of the user's. No secrets."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Final

from tokenbridge.card.base import KnownCard, PinReference, Slot
from tokenbridge.log import get

MAX_CARDS: Final = 64
MAX_BYTES: Final = 4 << 20

_log = get("cards")


class KnownCards:
    """GUID -> `KnownCard`, the latest `MAX_CARDS`. An unreadable file is as good as none: cards are read anew."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._cards: dict[str, KnownCard] = {}
        if path is not None and path.exists():
            self._load(path)

    def get(self, guid: str) -> KnownCard | None:
        return self._cards.get(guid)

    def put(self, card: KnownCard) -> None:
        """Remember `card`, written to the file only if it tells something new."""
        if self._cards.get(card.guid) == card:
            return
        self._cards.pop(card.guid, None)
        self._cards[card.guid] = card
        while len(self._cards) > MAX_CARDS:
            del self._cards[next(iter(self._cards))]
        self._save()

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("too large")
            self._cards = {card.guid: card for card in map(_from_json, json.loads(path.read_bytes()))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            _log.warning("memory of cards is unreadable and starts anew: %s", err)

    def _save(self) -> None:
        """A full disk costs some APDUs next time, and no sign-in now."""
        if self._path is None:
            return
        try:
            self._write(self._path)
        except OSError as err:
            _log.warning("memory of cards can't be written: %s", err)

    def _write(self, path: Path) -> None:
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump([_to_json(card) for card in self._cards.values()], file)
        temporary.replace(path)


def _to_json(card: KnownCard) -> dict[str, Any]:
    return {
        "guid": card.guid,
        "pin_reference": int(card.pin_reference),
        "has_discovery": card.has_discovery,
        "certificates": {f"{slot:02X}": b64encode(der).decode() for slot, der in card.certificates.items()},
    }


def _from_json(data: dict[str, Any]) -> KnownCard:
    return KnownCard(
        guid=str(data["guid"]),
        pin_reference=PinReference(data["pin_reference"]),
        has_discovery=bool(data["has_discovery"]),
        certificates={Slot(int(slot, 16)): b64decode(der, validate=True) for slot, der in data["certificates"].items()},
    )
