"""Where in a policy file a fault is: TOML's parser forgets lines, so they are found again by the words of the fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TOML: Final = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")
_PLACE: Final = re.compile(r"(rule|exception) (?:([0-9]+)|('.*?'|\".*?\")): (.*)", re.DOTALL)
_KEY: Final = re.compile(r"nobody knows the key '([^']+)'|([a-z_]+): ")
_HEAD: Final = re.compile(r"\s*\[\[\s*(rule|exception)\s*\]\]")
_NAME: Final = re.compile(r"\s*name\s*=\s*([\"'])(.*?)\1")


@dataclass(slots=True)
class _Section:
    """A `[[rule]]` or `[[exception]]`: the number of its first line, and its lines."""

    kind: str
    first: int
    lines: list[str]

    @property
    def name(self) -> str:
        found = next((match for line in self.lines if (match := _NAME.match(line))), None)
        return found[2] if found is not None else ""

    def line_of(self, key: str) -> int:
        """The line of a key, or the first of the section."""
        begins = re.compile(rf"\s*(?:\[\s*{self.kind}\s*\.\s*)?{re.escape(key)}\s*[=.\]]")
        return next((number for number, line in enumerate(self.lines, self.first) if begins.match(line)), self.first)


def line_of(text: str, fault: str) -> int | None:
    """The line, from 1, that a fault of `PolicyInvalid` is about; None where it is about the file as a whole."""
    toml = _TOML.search(fault)
    if toml is not None:
        return int(toml[1])
    if "(at end of document)" in fault:
        return text.count("\n") + 1
    place = _PLACE.match(fault)
    if place is None:
        return None
    kind, number, name, rest = place.groups()
    own = [section for section in _sections(text) if section.kind == kind]
    if number is not None:
        found = own[int(number) - 1] if 0 < int(number) <= len(own) else None
    else:
        found = next((section for section in own if repr(section.name) == name), None)
    if found is None:
        return None
    key = _KEY.match(rest)
    return found.line_of(key[1] or key[2]) if key is not None else found.first


def _sections(text: str) -> Iterator[_Section]:
    current: _Section | None = None
    for number, line in enumerate(text.split("\n"), 1):
        head = _HEAD.match(line)
        if head is not None:
            if current is not None:
                yield current
            current = _Section(head[1], number, [])
        if current is not None:
            current.lines.append(line)
    if current is not None:
        yield current
