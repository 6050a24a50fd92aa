"""authenticatorLargeBlobs: the serialised large-blob array, read and written in fragments (CTAP 2.1 section 6.10)."""

from __future__ import annotations

import hashlib
from enum import IntEnum, unique
from typing import Final

from tokenbridge.authenticator import parameters
from tokenbridge.authenticator.core import Answer, BlobUpload, Core, Parameters
from tokenbridge.authenticator.status import Refusal, Status, require
from tokenbridge.authenticator.steps import Steps
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, require_token

PREFIX: Final = b"\xff" * 32 + b"\x0c\x00"
CHECKSUM: Final = 16
SMALLEST: Final = 1 + CHECKSUM
MESSAGE_OVERHEAD: Final = 64
"""maxFragmentLength is maxMsgSize less this (section 6.10.2)."""
READ: Final = 0x01
"""Member of the answer: the bytes asked for."""


@unique
class Member(IntEnum):
    """Members of the request."""

    GET = 0x01
    SET = 0x02
    OFFSET = 0x03
    LENGTH = 0x04
    PARAM = 0x05
    PROTOCOL = 0x06


def large_blobs(core: Core, source: Parameters) -> Steps[Answer]:
    yield from ()
    offset = parameters.unsigned(source, Member.OFFSET)
    count = parameters.unsigned(source, Member.GET)
    fragment = parameters.optional(source, Member.SET, bytes)
    length = parameters.unsigned(source, Member.LENGTH)
    if offset is None or (count is None) == (fragment is None):
        raise Refusal(Status.INVALID_PARAMETER)
    if fragment is None:
        unfit = length is not None or Member.PARAM in source or Member.PROTOCOL in source
        require(not unfit, Status.INVALID_PARAMETER)
        return _read(core, offset, count or 0)
    auth = Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL)
    _write(core, fragment, offset, length, auth)
    return None


def max_fragment(core: Core) -> int:
    return core.profile.max_message - MESSAGE_OVERHEAD


def _read(core: Core, offset: int, count: int) -> Answer:
    stored = core.memory.large_blobs
    require(count <= max_fragment(core), Status.INVALID_LENGTH)
    require(offset <= len(stored), Status.INVALID_PARAMETER)
    return {READ: stored[offset : offset + count]}


def _write(core: Core, fragment: bytes, offset: int, length: int | None, auth: Auth) -> None:
    require(len(fragment) <= max_fragment(core), Status.INVALID_LENGTH)
    if offset == 0:
        total = _checked_total(core, length)
    else:
        require(length is None, Status.INVALID_PARAMETER)
        expected = core.upload is not None and len(core.upload.data) == offset
        require(expected, Status.INVALID_SEQ)
        total = core.upload.expected if core.upload is not None else 0
    _authorised(core, fragment, offset, auth)
    require(offset + len(fragment) <= total, Status.INVALID_PARAMETER)
    if offset == 0 or core.upload is None:
        core.upload = BlobUpload(expected=total)
    core.upload.data += fragment
    if len(core.upload.data) == total:
        _commit(core, core.upload)


def _checked_total(core: Core, length: int | None) -> int:
    if length is None:
        raise Refusal(Status.INVALID_PARAMETER)
    require(length <= core.profile.max_large_blobs, Status.LARGE_BLOB_STORAGE_FULL)
    require(length >= SMALLEST, Status.INVALID_PARAMETER)
    return length


def _authorised(core: Core, fragment: bytes, offset: int, auth: Auth) -> None:
    if core.protected or core.memory.always_uv or auth.param is not None:
        message = PREFIX + offset.to_bytes(4, "little") + hashlib.sha256(fragment).digest()
        require_token(core, auth, message, Permission.LARGE_BLOB_WRITE)


def _commit(core: Core, upload: BlobUpload) -> None:
    """All of it is there: it replaces what was stored, if its checksum is right."""
    core.upload = None
    data = bytes(upload.data)
    content, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    require(hashlib.sha256(content).digest()[:CHECKSUM] == checksum, Status.INTEGRITY_FAILURE)
    core.memory.large_blobs = data
    core.save()
