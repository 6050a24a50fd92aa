"""The pinUvAuthToken: what a right PIN or a recognised finger gives the platform, and its limits in time and purpose.

CTAP 2.1 section 6.5.2.1. Only one token is in use at a time: getting one resets those of all protocols.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from tokenbridge.authenticator import pin_protocol
from tokenbridge.authenticator.ports import Random
from tokenbridge.authenticator.profile import PinProtocol, Profile

TOKEN_SIZE: Final = 32


class Permission(IntFlag):
    """What a token may be used for (section 6.5.5.7)."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    CREDENTIAL_MANAGEMENT = 0x04
    BIO_ENROLLMENT = 0x08
    LARGE_BLOB_WRITE = 0x10
    AUTHENTICATOR_CONFIGURATION = 0x20


CEREMONIES: Final = Permission.MAKE_CREDENTIAL | Permission.GET_ASSERTION


@dataclass(slots=True)
class _Use:
    """State of a token that is in use."""

    protocol: PinProtocol
    value: bytes
    permissions: Permission
    rp_id: str | None
    since: float
    user_present: bool
    user_verified: bool = True
    used: bool = False


class PinUvAuthToken:
    """The token of an authenticator. Times are monotonic seconds, given by the caller."""

    def __init__(self, profile: Profile, random: Random) -> None:
        self._profile = profile
        self._random = random
        self._use: _Use | None = None

    def begin(
        self,
        protocol: PinProtocol,
        permissions: Permission,
        rp_id: str | None,
        *,
        user_present: bool,
        now: float,
    ) -> bytes:
        """A new token, for which any other stops working."""
        value = self._random.bytes(TOKEN_SIZE)
        self._use = _Use(protocol, value, permissions, rp_id, now, user_present)
        return value

    def reset(self) -> None:
        self._use = None

    def verifies(self, protocol: PinProtocol, message: bytes, signature: bytes, now: float) -> bool:
        """Whether `signature` was made with the token in use; its first use ends the limit on that."""
        use = self._live(now)
        if use is None or use.protocol is not protocol:
            return False
        if not pin_protocol.verifies(protocol, use.value, message, signature):
            return False
        use.used = True
        return True

    def permits(self, permission: Permission) -> bool:
        return self._use is not None and bool(self._use.permissions & permission)

    @property
    def rp_id(self) -> str | None:
        """The RP ID that it is limited to."""
        return None if self._use is None else self._use.rp_id

    def fits(self, rp_id: str) -> bool:
        """Whether it may be used for `rp_id`, or for all."""
        return self._use is not None and self._use.rp_id in (None, rp_id)

    def fits_hash(self, rp_id_hash: bytes) -> bool:
        """As `fits`, for callers that know the hash only."""
        if self._use is None:
            return False
        mine = self._use.rp_id
        return mine is None or hmac.compare_digest(hashlib.sha256(mine.encode("utf-8")).digest(), rp_id_hash)

    def bind(self, rp_id: str) -> None:
        """Limit it to `rp_id` if it is not limited yet (section 6.1.2 step 11.1.6)."""
        if self._use is not None and self._use.rp_id is None:
            self._use.rp_id = rp_id

    def user_verified(self) -> bool:
        return self._use is not None and self._use.user_verified

    def user_present(self, now: float) -> bool:
        """Whether getting it proved presence, and not long ago."""
        use = self._live(now)
        return use is not None and use.user_present and now - use.since <= self._profile.token_presence_seconds

    def spend(self) -> None:
        """One ceremony is done: neither presence nor verification serve another (section 6.1.2 step 14.3)."""
        if self._use is not None:
            self._use.user_present = False
            self._use.user_verified = False
            self._use.permissions &= Permission.LARGE_BLOB_WRITE

    def _live(self, now: float) -> _Use | None:
        use = self._use
        if use is None:
            return None
        limit = self._profile.token_seconds if use.used else self._profile.token_first_use_seconds
        if now - use.since > limit:
            self._use = None
        return self._use
