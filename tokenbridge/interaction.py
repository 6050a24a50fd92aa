"""What a ceremony asks of a person, and how secrets are carried. No terminal, window or socket is touched here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol


class Secret:
    """Bytes that print as *** and are wiped after use.

    Wiping overwrites the one buffer that this object owns; whoever calls `reveal` gets that buffer, not a copy.
    Use it as a context manager so that it is wiped whatever happens.
    """

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._buffer = value if isinstance(value, bytearray) else bytearray(value)

    @classmethod
    def from_text(cls, text: str) -> Secret:
        return cls(bytearray(text.encode("utf-8")))

    def reveal(self) -> bytearray:
        """The secret itself. Do not copy, log or keep it."""
        return self._buffer

    def wipe(self) -> None:
        for i in range(len(self._buffer)):
            self._buffer[i] = 0
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __enter__(self) -> Secret:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is never pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRequest:
    """Everything a person must see before typing a PIN. `tries_left` is None when the device does not tell.

    `key` is the name of a security key; without it the PIN is a card's.
    """

    purpose: str
    rp_name: str = ""
    origin: str = ""
    program: str = ""
    card: str = ""
    key: str = ""
    holder: str = ""
    tries_left: int | None = None
    on_reader: bool = False
    min_length: int = 6
    max_length: int = 8

    @property
    def last_try(self) -> bool:
        return self.tries_left == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One of several things a person may choose: `id` for the program, the rest for the eye."""

    id: str
    label: str
    detail: str = ""


def one_line(text: str) -> str:
    """`text` as it may be shown: whatever is no printable character (escapes, line ends, bidi marks) becomes "?".

    Names of sites and on cards are written by strangers; none of them may draw on the terminal or pose as another line.
    """
    return "".join(char if char.isprintable() else "?" for char in text)


class Interaction(Protocol):
    """A person, or a robot standing in for one. Every method raises `errors.Cancelled` when the person declines."""

    async def ask_pin(self, request: PinRequest) -> Secret:
        """Show `request` and return what was typed."""

    async def confirm_last_try(self, request: PinRequest) -> None:
        """Return only if the person agrees to spend the last try."""

    async def choose(self, title: str, options: Sequence[Option]) -> str:
        """The `id` of the option taken; `options` has at least two."""

    async def progress(self, step: str, **facts: object) -> None:
        """Tell what is going on: `step` is a stable word, `facts` are JSON types."""
