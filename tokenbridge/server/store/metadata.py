"""The metadata of keys as one row. Whether a blob is genuine was decided before it comes here."""

from __future__ import annotations

import datetime as dt
import json
import zlib
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from tokenbridge.rp.key_metadata import Metadata
from tokenbridge.server.store.key_schema import KeyMetadata

COLUMNS: Final = (KeyMetadata.number, KeyMetadata.loaded_at)
"""What a stamp is made of, for statements that read it along with something else."""

Stamp: TypeAlias = tuple[object, ...] | None
"""None: no metadata was loaded yet."""

_STAMP: Final = select(*COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The metadata in force, where it came from and when."""

    metadata: Metadata
    source: str
    loaded_at: dt.datetime


def stamp(tx: Session) -> Stamp:
    """Changes whenever metadata is loaded; cheap to ask."""
    row = tx.connection().execute(_STAMP).one_or_none()
    return None if row is None else stamp_of(row)


def stamp_of(row: Any) -> Stamp:
    """The stamp in a row that has `COLUMNS`; None where they are empty."""
    return None if row.number is None else (row.number, row.loaded_at)


def current(tx: Session) -> Loaded | None:
    row = tx.get(KeyMetadata, 1)
    if row is None:
        return None
    content = json.loads(zlib.decompress(row.content))
    return Loaded(metadata=Metadata.from_json(content), source=row.source, loaded_at=row.loaded_at)


def replace(tx: Session, metadata: Metadata, source: str, now: dt.datetime) -> None:
    connection = tx.connection()
    connection.execute(delete(KeyMetadata))
    values = {
        "id": 1,
        "number": metadata.number,
        "next_update": metadata.next_update.isoformat(),
        "source": source[:1024],
        "content": zlib.compress(json.dumps(metadata.as_json()).encode()),
        "loaded_at": now,
    }
    connection.execute(insert(KeyMetadata), values)
