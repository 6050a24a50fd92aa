"""Credentials: making them, finding those a request may use, and the sealed ids of those that are kept nowhere."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tokenbridge.authenticator import cbor
from tokenbridge.authenticator.core import Core
from tokenbridge.authenticator.memory import Credential, Protection
from tokenbridge.authenticator.parameters import User
from tokenbridge.authenticator.ports import NewKey, StoreFull
from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.authenticator.status import Refusal, Status
from tokenbridge.authenticator.steps import Steps, slowly

_CONTEXT: Final = b"credential id"
ID_SIZE: Final = 32
"""Of discoverable credentials; at least 16 bytes with 100 random bits (WebAuthn section 4, Credential ID)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a new credential is to be. `user` is None for one that is not discoverable."""

    rp_id: str
    rp_id_hash: bytes
    algorithm: Algorithm
    user: User | None = None
    protection: Protection = Protection.UV_OPTIONAL
    hmac_secret: bool = False
    blob: bytes = b""
    large_blob_key: bool = False


def make(core: Core, wish: Wish) -> Steps[Credential]:
    """The new credential, with its key. A discoverable one still has to be kept by `keep`."""
    discoverable = wish.user is not None
    try:
        key = yield from slowly(lambda: core.world.store.generate(wish.algorithm, discoverable=discoverable))
    except StoreFull as err:
        raise Refusal(Status.KEY_STORE_FULL) from err
    credential = Credential(
        id=b"",
        rp_id=wish.rp_id,
        rp_id_hash=wish.rp_id_hash,
        algorithm=wish.algorithm,
        handle=key.handle,
        public_key=cbor.encode(key.public),
        user=wish.user,
        protection=wish.protection,
        hmac_secret=wish.hmac_secret,
        blob=wish.blob,
        large_blob_key=wish.large_blob_key,
    )
    credential.id = core.world.random.bytes(ID_SIZE) if discoverable else _seal(core, credential, key)
    return credential


def keep(core: Core, credential: Credential) -> None:
    """Store a discoverable credential in place of one for this RP and user (section 6.1.2 step 17). Not saved yet."""
    for old in of_rp(core, credential.rp_id_hash):
        if old.user is not None and credential.user is not None and old.user.id == credential.user.id:
            core.discard(old)
    core.memory.order += 1
    credential.order = core.memory.order
    core.memory.credentials.append(credential)


def replaces_one(core: Core, rp_id_hash: bytes, user: User) -> bool:
    """Whether there is a credential that one for this RP and user would replace."""
    return any(known.user is not None and known.user.id == user.id for known in of_rp(core, rp_id_hash))


def of_rp(core: Core, rp_id_hash: bytes) -> list[Credential]:
    """Discoverable ones, the latest first (section 6.2.2 step 12)."""
    found = [one for one in core.memory.credentials if hmac.compare_digest(one.rp_id_hash, rp_id_hash)]
    return sorted(found, key=lambda one: one.order, reverse=True)


def by_id(core: Core, rp_id_hash: bytes, unverified_id: bytes) -> Credential | None:
    """The credential of that id if it is this device's and this RP's."""
    for one in core.memory.credentials:
        if hmac.compare_digest(one.id, unverified_id) and hmac.compare_digest(one.rp_id_hash, rp_id_hash):
            return one
    if len(unverified_id) > core.profile.max_credential_id:
        return None
    clear = core.world.store.unseal(unverified_id, _CONTEXT + rp_id_hash)
    return None if clear is None else _unsealed(clear, unverified_id, rp_id_hash)


def among(core: Core, rp_id_hash: bytes, unverified_ids: Iterable[bytes]) -> list[Credential]:
    """Those of the ids that are this device's and this RP's, in the order of the list."""
    found = (by_id(core, rp_id_hash, unverified_id) for unverified_id in unverified_ids)
    return [one for one in found if one is not None]


def usable(credentials: Iterable[Credential], *, uv: bool, by_list: bool) -> list[Credential]:
    """Those that credProtect lets be used (section 12.1, getAssertion's additional behaviour)."""
    allowed = {Protection.UV_OPTIONAL}
    if by_list:
        allowed.add(Protection.UV_OPTIONAL_WITH_ID)
    return [one for one in credentials if uv or one.protection in allowed]


def _seal(core: Core, credential: Credential, key: NewKey) -> bytes:
    content = [
        int(credential.algorithm),
        key.handle,
        int(credential.protection),
        credential.hmac_secret,
    ]
    return core.world.store.seal(cbor.encode(content), _CONTEXT + credential.rp_id_hash)


def _unsealed(clear: bytes, identity: bytes, rp_id_hash: bytes) -> Credential:
    """`clear` was sealed by this device, so its form is known."""
    algorithm, handle, protection, hmac_secret = cbor.decode(clear)
    return Credential(
        id=identity,
        rp_id="",
        rp_id_hash=rp_id_hash,
        algorithm=Algorithm(algorithm),
        handle=handle,
        protection=Protection(protection),
        hmac_secret=hmac_secret,
    )
