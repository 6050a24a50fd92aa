"""Typed reading of a command's parameter map. Wrong types and absent members are refused as the specification says.

CTAP 2.1 section 8.2: CBOR_UNEXPECTED_TYPE for a wrong type, MISSING_PARAMETER for an absent mandatory one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tokenbridge.authenticator.status import Refusal, Status, require

T = TypeVar("T")

MAX_RP_ID: Final = 1024
MAX_USER_ID: Final = 64
"""WebAuthn section 5.4.3."""
MAX_LIST: Final = 256
"""No list of a request is longer than this, whatever the message size allows."""
PUBLIC_KEY: Final = "public-key"


def optional(source: Mapping[Any, Any], key: int | str, kind: type[T]) -> T | None:
    """The member `key`, None if it is absent."""
    if key not in source:
        return None
    value = source[key]
    # bool is a kind of int for Python, not for CBOR
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Refusal(Status.CBOR_UNEXPECTED_TYPE)
    return value


def required(source: Mapping[Any, Any], key: int | str, kind: type[T]) -> T:
    """The member `key`; refuses with MISSING_PARAMETER if it is absent."""
    value = optional(source, key, kind)
    if value is None:
        raise Refusal(Status.MISSING_PARAMETER)
    return value


def unsigned(source: Mapping[Any, Any], key: int | str) -> int | None:
    """An unsigned integer, None if absent."""
    value = optional(source, key, int)
    if value is not None and value < 0:
        raise Refusal(Status.CBOR_UNEXPECTED_TYPE)
    return value


def items(source: Mapping[Any, Any], key: int | str, kind: type[T]) -> list[T] | None:
    """A list whose members are all of one kind, None if absent."""
    values = optional(source, key, list)
    if values is None:
        return None
    if len(values) > MAX_LIST:
        raise Refusal(Status.LIMIT_EXCEEDED)
    if not all(isinstance(value, kind) for value in values):
        raise Refusal(Status.CBOR_UNEXPECTED_TYPE)
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """PublicKeyCredentialUserEntity. `id` is at most 64 bytes; names may be empty."""

    id: bytes
    name: str = ""
    display_name: str = ""

    def entity(self, *, names: bool) -> dict[str, Any]:
        """As it is answered, with the names only if asked for."""
        named = {"name": self.name, "displayName": self.display_name} if names else {}
        return {"id": self.id, **{key: text for key, text in named.items() if text}}


def user_of(source: Mapping[Any, Any], *, name_limit: int) -> User:
    """Names longer than `name_limit` bytes are cut at a code point (section 6.1.2 allows that)."""
    identity = required(source, "id", bytes)
    if len(identity) > MAX_USER_ID:
        raise Refusal(Status.INVALID_LENGTH)
    name, display, _icon = (optional(source, key, str) or "" for key in ("name", "displayName", "icon"))
    return User(id=identity, name=cut(name, name_limit), display_name=cut(display, name_limit))


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8."""
    return text.encode("utf-8")[:limit].decode("utf-8", "ignore")


def rp_id_of(source: Mapping[Any, Any], key: int | str) -> str:
    """A mandatory RP ID."""
    rp_id = required(source, key, str)
    if len(rp_id) > MAX_RP_ID:
        raise Refusal(Status.INVALID_LENGTH)
    return rp_id


def rp_entity_id(source: Mapping[Any, Any], key: int) -> str:
    """The RP ID in a mandatory PublicKeyCredentialRpEntity; its other members have to be texts."""
    entity = required(source, key, dict)
    for name in ("name", "icon"):
        optional(entity, name, str)
    return rp_id_of(entity, "id")


def credential_ids(source: Mapping[Any, Any], key: int, *, limit: int) -> list[bytes] | None:
    """The ids in a list of PublicKeyCredentialDescriptor; those of other types than "public-key" are left out.

    More than `limit` (maxCredentialCountInList) are refused.
    """
    descriptors = items(source, key, dict)
    if descriptors is None:
        return None
    require(len(descriptors) <= limit, Status.LIMIT_EXCEEDED)
    return [found for one in descriptors if (found := credential_id(one)) is not None]


def credential_id(descriptor: Mapping[Any, Any]) -> bytes | None:
    """The id in a PublicKeyCredentialDescriptor, None if its type is unknown."""
    kind, identity = required(descriptor, "type", str), required(descriptor, "id", bytes)
    return identity if kind == PUBLIC_KEY else None
