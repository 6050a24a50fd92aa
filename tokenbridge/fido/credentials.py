"""The credentials that a key keeps: list, delete (authenticatorCredentialManagement, CTAP 2.1 section 6.8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fido2.ctap2.credman import CredentialManagement
from fido2.webauthn import PublicKeyCredentialDescriptor, PublicKeyCredentialType

from tokenbridge.errors import KeyUnsupported, NoCredential
from tokenbridge.fido.pin import Token
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.values import count, members, octets, text

MAX_SITES: Final = 256
MAX_CREDENTIALS: Final = 1024
RESULT = CredentialManagement.RESULT


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """`id` is the credential id; `protection` the credProtect level, 1 to 3."""

    id: bytes
    rp_id: str
    account: str = ""
    display_name: str = ""
    protection: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """`rooms_left` is the key's own estimate."""

    credentials: tuple[StoredCredential, ...]
    rooms_left: int


def stored(session: KeySession, token: Token) -> Stored:
    """Everything the key keeps. Raises `KeyUnsupported` for keys that can't tell."""
    with session.calling():
        manage = _manage(session, token)
        room = manage.get_metadata()
        found = []
        if count(room[RESULT.EXISTING_CRED_COUNT], MAX_CREDENTIALS):
            for site in _sites(manage):
                found += _of_site(manage, site)
        return Stored(credentials=tuple(found), rooms_left=count(room[RESULT.MAX_REMAINING_COUNT], 1 << 16))


def delete(session: KeySession, token: Token, credential: bytes) -> None:
    """Raises `NoCredential` when it is not there (any more)."""
    with session.calling():
        descriptor = PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=credential)
        _manage(session, token).delete_cred(descriptor)
    session.forget()  # it has one room more


def matching(found: Stored, prefix: str) -> StoredCredential:
    """The one credential whose id begins with `prefix` (hexadecimal). Raises `NoCredential` for none or several."""
    hits = [item for item in found.credentials if item.id.hex().startswith(prefix.lower())]
    if len(hits) != 1:
        how_many = "no credential" if not hits else f"{len(hits)} credentials"
        raise NoCredential(
            f"The key has {how_many} with an id that begins with {prefix!r}.",
            next_step="See `tokenbridge key credentials list`.",
        )
    return hits[0]


def _manage(session: KeySession, token: Token) -> CredentialManagement:
    with session.calling() as ctap:
        if not CredentialManagement.is_supported(ctap.info):
            raise KeyUnsupported("This security key can't list what it keeps.", next_step="Only a reset erases it.")
        return CredentialManagement(ctap, token.protocol, bytes(token.secret.reveal()))


def _sites(manage: CredentialManagement) -> list[Mapping[int, Any]]:
    first = manage.enumerate_rps_begin()
    sites = count(first[RESULT.TOTAL_RPS], MAX_SITES)
    return [first, *(manage.enumerate_rps_next() for _ in range(sites - 1))] if sites else []


def _of_site(manage: CredentialManagement, site: Mapping[int, Any]) -> list[StoredCredential]:
    first = manage.enumerate_creds_begin(site[RESULT.RP_ID_HASH])
    kept = count(first.get(RESULT.TOTAL_CREDENTIALS, 1), MAX_CREDENTIALS)
    rp_id = text(members(site[RESULT.RP]).get("id"))
    return [_credential(rp_id, item) for item in (first, *(manage.enumerate_creds_next() for _ in range(kept - 1)))]


def _credential(rp_id: str, item: Mapping[int, Any]) -> StoredCredential:
    user = members(item[RESULT.USER])
    return StoredCredential(
        id=octets(item[RESULT.CREDENTIAL_ID]["id"]),
        rp_id=rp_id,
        account=text(user.get("name")),
        display_name=text(user.get("displayName")),
        protection=count(item.get(RESULT.CRED_PROTECT, 1), 3),
    )
