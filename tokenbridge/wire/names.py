"""Distinguished names as text (RFC 4514). Only writes: text is never parsed back into a name."""

from __future__ import annotations

from typing import Any, Final

# RFC 4514, section 3; every other type is written as its dotted OID.
_SHORT: Final = {
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
_SPECIAL: Final = frozenset('"+,;<>\\')


def rfc4514(name: Any) -> str:
    """An asn1crypto Name as RFC 4514 text: the last RDN first. Equal names give equal text."""
    return ",".join(rdns(name)[::-1])


def rdns(name: Any) -> list[str]:
    """The RDNs in the certificate's order, each as RFC 4514 text."""
    return ["+".join(sorted(_attribute(pair) for pair in rdn)) for rdn in name.chosen]


def _attribute(pair: Any) -> str:
    dotted = pair["type"].dotted
    short = _SHORT.get(dotted)
    if short is None:
        return f"{dotted}=#{pair['value'].dump().hex()}"
    return f"{short}={escape(str(pair['value'].native))}"


def escape(value: str) -> str:
    """RFC 4514, section 2.4; control characters too, so that the text stays on one line."""
    text = "".join(_escaped(char) for char in value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    if len(value) > 1 and value.endswith(" "):
        text = text[:-1] + "\\ "
    return text


def _escaped(char: str) -> str:
    if char in _SPECIAL:
        return "\\" + char
    if char.isprintable():
        return char
    return "".join(f"\\{byte:02X}" for byte in char.encode("utf-8"))
