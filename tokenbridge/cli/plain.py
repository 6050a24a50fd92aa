"""What strangers wrote (sites, cards) as it may go to a terminal. JSON output is not for terminals."""

from __future__ import annotations

from typing import Any

from tokenbridge.interaction import one_line

VERBATIM = frozenset({"pem"})
"""Members with line ends of their own; the bridge makes them."""


def plain(data: Any) -> Any:
    """`data`, JSON types, with every text in it (names of members aside) on one printable line."""
    match data:
        case str():
            return one_line(data)
        case dict():
            return {key: value if key in VERBATIM else plain(value) for key, value in data.items()}
        case list():
            return [plain(item) for item in data]
        case _:
            return data
