"""In which country a network address is, by a MaxMind DB file that the operator supplies."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import maxminddb

from tokenbridge import log
from tokenbridge.errors import SetupError

_log = log.get("server.countries")

_NOBODY: Final = (0, 0, 0)


class Countries:
    """Safe between threads. Without a file no address is anywhere."""

    def __init__(self, path: Path | None) -> None:
        """Raises `SetupError` when there is a file that can't be used."""
        self._path = path
        self._lock = threading.Lock()
        self._seen = _stamp(path)
        self._reader = _open(path) if path is not None else None

    def of(self, address: str) -> str:
        """ISO 3166-1 alpha-2, or empty when it is not known."""
        reader = self._current()
        if reader is None:
            return ""
        try:
            found = reader.get(address)
        except (ValueError, maxminddb.InvalidDatabaseError):
            return ""
        return _code(found)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _current(self) -> maxminddb.Reader | None:
        seen = _stamp(self._path)
        if self._path is None or seen == self._seen:
            return self._reader
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                try:
                    # The old one is left to whoever is reading in it at this moment.
                    self._reader = _open(self._path)
                except SetupError as err:
                    _log.error("the old file of countries stays in use: %s", err.message)
            return self._reader


def _open(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(str(path))
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as err:
        raise SetupError(
            f"The file of countries {path} can't be used: {err}.",
            next_step="Set `countries` to a MaxMind DB file (.mmdb) that says in which country addresses are.",
        ) from err


def _code(record: object) -> str:
    """`country.iso_code`, as MaxMind's and DB-IP's files have it; `country_code` and a plain code, as others do."""
    if isinstance(record, Mapping):
        country = record.get("country", record.get("country_code", ""))
        record = country.get("iso_code", "") if isinstance(country, Mapping) else country
    return record.upper() if isinstance(record, str) and len(record) == 2 and record.isalpha() else ""


def _stamp(path: Path | None) -> tuple[int, int, int]:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return _NOBODY
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else _NOBODY
