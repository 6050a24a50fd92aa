"""Files of certificates, as people have them: PEM or DER. It judges none of them."""

from __future__ import annotations

import itertools
from typing import Final

from asn1crypto import pem

from tokenbridge.errors import BadRequest

MAX_BYTES: Final = 256 << 10
MAX_CERTIFICATES: Final = 100


def certificates(data: bytes) -> list[bytes]:
    """The certificates of a PEM text, or the one of a DER file. Raises `BadRequest`."""
    if len(data) > MAX_BYTES:
        raise BadRequest("That is too large to be certificates.")
    try:
        if not pem.detect(data):
            return [data]
        parts = itertools.islice(pem.unarmor(data, multiple=True), MAX_CERTIFICATES)
        found = [der for kind, _, der in parts if kind == "CERTIFICATE"]
    except (ValueError, TypeError) as err:
        raise BadRequest("The PEM text is damaged.", detail=str(err)) from err
    if not found:
        raise BadRequest("There is no certificate in it.", next_step="Give PEM with BEGIN CERTIFICATE.")
    return found


def armored(ders: list[bytes]) -> str:
    """PEM text of DER certificates."""
    return "".join(pem.armor("CERTIFICATE", der).decode() for der in ders)
