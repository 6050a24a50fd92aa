"""The policy in force: read again when its file has changed; a file with a fault is refused and the old one kept."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from tokenbridge import log
from tokenbridge.errors import PolicyInvalid
from tokenbridge.rp.policy_file import MAX_BYTES, parse
from tokenbridge.rp.rules import DEFAULT_POLICY, Policy

_log = log.get("server.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """A policy and which text it was read from: the first 12 hex digits of its SHA-256; `default` without a file."""

    policy: Policy
    version: str


DEFAULT_EDITION: Final = Edition(policy=DEFAULT_POLICY, version="default")


def read(path: Path) -> Edition:
    """The policy of a file, the default one where there is none. Raises `PolicyInvalid`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return DEFAULT_EDITION
    except OSError as err:
        raise PolicyInvalid([f"it can't be read: {err}"], file=str(path)) from err
    return edition_of(raw, file=str(path))


def edition_of(raw: bytes, *, file: str = "The policy") -> Edition:
    """The policy that these bytes say. Raises `PolicyInvalid`, which calls them `file`."""
    try:
        policy = parse(raw.decode("utf-8"), zones=ZoneInfo)
    except UnicodeDecodeError as err:
        raise PolicyInvalid([f"it can't be read: {err}"], file=file) from err
    except PolicyInvalid as err:
        raise PolicyInvalid(err.faults, file=file) from err
    return Edition(policy=policy, version=hashlib.sha256(raw).hexdigest()[:12])


Changed = Callable[[Edition, PolicyInvalid | None], None]
"""Called once for every change of the file: with the policy now in force, and the fault if the file was refused."""


class PolicyBook:
    """The current policy. Asking costs one look at the file's stamp. Safe between threads."""

    def __init__(self, path: Path, changed: Changed | None = None) -> None:
        """Raises `PolicyInvalid`: a server does not begin with a file that it can't use."""
        self._path = path
        self._changed = changed
        self._lock = threading.Lock()
        self._seen = _stamp(path)
        self._edition = read(path)

    def current(self) -> Edition:
        seen = _stamp(self._path)
        if seen == self._seen:
            return self._edition
        with self._lock:
            if seen == self._seen:
                return self._edition
            before, fault = self._edition, self._reload()
            # Looked at before it was read: a file that changes in between is then read again.
            self._seen = seen
            edition = self._edition
        if self._changed is not None and (fault is not None or edition != before):
            self._changed(edition, fault)
        return edition

    def _reload(self) -> PolicyInvalid | None:
        try:
            # A file that is gone is most likely about to be replaced; without rules more might be let in.
            self._edition = read(self._path) if self._path.exists() else self._edition
        except PolicyInvalid as err:
            _log.error("the policy of %s stays in force: %s", self._edition.version, err.message)
            return err
        _log.info("policy %s is in force", self._edition.version)
        return None


def _stamp(path: Path) -> tuple[int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0, 0
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
