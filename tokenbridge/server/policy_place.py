"""The policy file as a page changes it: replaced in one step, and only if it is still what was looked at.

The book that a server decides by follows the file by itself: nothing here is in force before it has seen it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenbridge import log
from tokenbridge.errors import NotAllowedNow, Outdated, SetupError
from tokenbridge.rp.policy_file import MAX_BYTES

NO_FILE: Final = "none"
"""The digest of a file that is not there."""
NEW_MODE: Final = 0o600

_log = log.get("server.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the file holds: its bytes, and their SHA-256 in hex, or `NO_FILE`."""

    content: bytes
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlace:
    """`path` may be a symbolic link: what it leads to is replaced, the link stays."""

    path: Path

    def read(self) -> Held:
        """Raises `SetupError` when there is a file that can't be read, or that is too large for a policy."""
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Held(content=b"", digest=NO_FILE)
        except OSError as err:
            raise SetupError(f"The policy file can't be read: {err.strerror}.", detail=str(self.path)) from err
        if len(content) > MAX_BYTES:
            raise SetupError("The policy file is larger than 1 MiB.", detail=str(self.path))
        return Held(content=content, digest=hashlib.sha256(content).hexdigest())

    @property
    def hindrance(self) -> str:
        """Why this process can't replace the file; empty when it can."""
        target = self._target()
        try:
            found = target.stat()
        except FileNotFoundError:
            found = None
        except OSError as err:
            return f"its directory can't be searched ({err.strerror})"
        if found is not None and not stat.S_ISREG(found.st_mode):
            return "it is no regular file"
        if not os.access(target.parent, os.W_OK | os.X_OK):
            return "the server may not write to its directory"
        if found is not None and os.geteuid() not in (0, found.st_uid):
            return "it belongs to another user, and would not any more"
        return ""

    def replace(self, content: bytes, *, expected_digest: str) -> Held:
        """Put `content` in the file's place, with its mode and owner; returns what was there. To be called where no
        other process does the same. Raises `Outdated`, or `NotAllowedNow` when it can't be written."""
        before = self.read()
        if before.digest != expected_digest:
            raise Outdated("The policy file was changed since you opened it, so nothing was done.")
        hindrance = self.hindrance
        if hindrance:
            raise NotAllowedNow(
                f"The policy file can't be written here: {hindrance}.",
                next_step="Save the file here, and let the people who run the server put it in place.",
            )
        try:
            _put(self._target(), content)
        except OSError as err:
            raise NotAllowedNow(
                f"The policy file can't be written: {err.strerror}.",
                next_step="The old one is in force. Tell the people who run the server.",
                detail=str(err),
            ) from err
        return before

    def restore(self, held: Held) -> None:
        """Take back a replacement that could not be put on record."""
        _log.error("the policy %s is put back: its replacement could not be recorded", held.digest[:12])
        if held.digest == NO_FILE:
            self._target().unlink(missing_ok=True)
        else:
            _put(self._target(), held.content)

    def _target(self) -> Path:
        return self.path.resolve()


def _put(target: Path, content: bytes) -> None:
    """Write beside the target, then rename: whoever reads sees the old file or the new one, even after a power cut."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    name = f".{target.name}.{secrets.token_hex(8)}"
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, NEW_MODE, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                _as_before(file.fileno(), target.name, folder)
                os.fsync(file.fileno())
            os.replace(name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def _as_before(handle: int, name: str, folder: int) -> None:
    """Give an open file mode, owner and group of the one whose place it takes, if there is one."""
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))
