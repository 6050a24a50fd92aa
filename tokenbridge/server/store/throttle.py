"""Counts attempts per key and minute, for every process together. Keys of unknown names look like all others."""

from __future__ import annotations

import datetime as dt
import hashlib

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from tokenbridge.server.store.schema import Throttle

PER_MINUTE = 10


def allow(tx: Session, kind: str, name: str, now: dt.datetime) -> bool:
    """Count one attempt; False when this minute has had enough of them."""
    key = hashlib.sha256(f"{kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
    minute = int(now.timestamp()) // 60
    tx.execute(delete(Throttle).where(Throttle.minute < minute))
    again = update(Throttle).where(Throttle.key == key).values(count=Throttle.count + 1)
    if tx.connection().execute(again).rowcount == 0:
        tx.add(Throttle(key=key, minute=minute, count=1))
        return True
    return (tx.scalar(select(Throttle.count).where(Throttle.key == key)) or 0) <= PER_MINUTE
