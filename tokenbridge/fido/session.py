"""An open security key: its channel, what it says about itself (asked once), and calls to it with errors translated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fido2.ctap import CtapError
from fido2.ctap1 import Ctap1
from fido2.ctap2.base import Ctap2

from tokenbridge.fido.channel import Check, KeyChannel
from tokenbridge.fido.info import U2F_ONLY, KeyFacts, facts_of
from tokenbridge.fido.status import translated
from tokenbridge.transport import packets
from tokenbridge.transport.base import KeyPlace, PacketLink, Trace
from tokenbridge.transport.hidraw import HidrawLink
from tokenbridge.wire.ctaphid import Capability

STALE: Final = frozenset({CtapError.ERR.PIN_NOT_SET, CtapError.ERR.PUAT_REQUIRED})
"""The key is not as it was when it was asked about itself: another program has set its PIN, or reset it."""


class KeySession:
    """Belongs to the key's worker thread. Owns the link; what the key said of itself is kept until `forget`."""

    def __init__(self, link: PacketLink, place: KeyPlace, trace: Trace) -> None:
        self.place = place
        self._channel = KeyChannel(link, place.path, trace)
        self._ctap: Ctap2 | None = None
        self._facts: KeyFacts | None = None
        try:
            self._channel.open()
        except BaseException:
            self._channel.close()
            raise

    @classmethod
    def open(cls, place: KeyPlace, trace: Trace) -> KeySession:
        """Raises `AccessDenied`, `DeviceRemoved`, `LinkFailed`, `DeviceBusy`."""
        is_socket = place.path.endswith(packets.SUFFIX)
        link: PacketLink = packets.connect(place.path) if is_socket else HidrawLink(place.path)
        return cls(link, place, trace)

    @property
    def waiting_for_transaction(self) -> bool:
        return self._channel.busy

    @property
    def facts(self) -> KeyFacts:
        """What the key says of itself; the first time, and after `forget`, it is asked (getInfo)."""
        if self._facts is None:
            if not self._channel.capabilities & Capability.CBOR:
                self._facts = U2F_ONLY
            else:
                with self.calling() as ctap:
                    self._facts = facts_of(ctap.info)
        return self._facts

    def forget(self) -> None:
        """What the key said of itself has changed."""
        self._ctap = None
        self._facts = None

    @contextmanager
    def during(self, cancel: Check, on_touch: Callable[[], None] = lambda: None) -> Iterator[KeySession]:
        """For one job: `cancel` ends its waits, `on_touch` is called when the key wants to be touched."""
        before = self._channel.cancel, self._channel.on_touch
        self._channel.cancel, self._channel.on_touch = cancel, on_touch
        try:
            yield self
        finally:
            self._channel.cancel, self._channel.on_touch = before

    @contextmanager
    def calling(self) -> Iterator[Ctap2]:
        """python-fido2's CTAP2 calls; what they raise comes out as `TokenbridgeError`."""
        with translated():
            if self._ctap is None:
                self._ctap = Ctap2(self._channel)
            try:
                yield self._ctap
            except CtapError as err:
                if err.code in STALE:
                    self.forget()
                raise

    @contextmanager
    def calling_u2f(self) -> Iterator[Ctap1]:
        """The same for CTAP1. `ApduError` is for the caller to tell apart."""
        with translated():
            yield Ctap1(self._channel)

    def wants_touch(self) -> None:
        """A U2F key has no keepalive: it says so by refusing."""
        self._channel.on_touch()

    def pause(self, seconds: float) -> None:
        """Raises `Cancelled`, `TimedOut`."""
        self._channel.pause(seconds)

    def close(self) -> None:
        self._channel.close()
