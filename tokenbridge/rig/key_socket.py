"""A virtual key on a packet socket: several hosts may connect, as several programs may open one hidraw device."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tokenbridge.errors import DeviceError
from tokenbridge.transport import packets
from tokenbridge.transport.gate import Gate
from tokenbridge.transport.packets import KEY_GONE, PacketSocket


class KeySocket:
    """A `transport.base.DeviceEnd`: the key hears every host, and every host hears the key.

    Made, it is plugged in at `path`; `close` removes the file. `send` and `receive` belong to one thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hosts: dict[int, PacketSocket] = {}
        self._gate = Gate(self._release, KEY_GONE)
        self._listener = packets.listen(path)
        self._listener.setblocking(False)
        self._gate.watch(self._listener.fileno())

    def send(self, packet: bytes) -> None:
        """To every host; one that does not read or has gone is given up."""
        with self._gate.using():
            for number, host in list(self._hosts.items()):
                try:
                    host.send(packet)
                except DeviceError:
                    self._drop(number)

    def receive(self, timeout: float | None) -> bytes | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._gate.waiting():
            while ready := self._gate.ready(deadline):
                for number in ready:
                    packet = self._take(number)
                    if packet is not None:
                        return packet
        return None

    def close(self) -> None:
        """Unplug. Also ends a `receive` that waits in another thread."""
        self._gate.close(lambda: self.path.unlink(missing_ok=True))

    def _take(self, number: int) -> bytes | None:
        """A packet from one host; the listener's number stands for a host that connects."""
        if number == self._listener.fileno():
            self._accept()
            return None
        try:
            return self._hosts[number].receive(0)
        except DeviceError:
            self._drop(number)
            return None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connected, _address = self._listener.accept()
            self._hosts[connected.fileno()] = PacketSocket(connected)
            self._gate.watch(connected.fileno())

    def _drop(self, number: int) -> None:
        self._gate.forget(number)
        self._hosts.pop(number).close()

    def _release(self) -> None:
        for number in list(self._hosts):
            self._drop(number)
        self._listener.close()
