"""A virtual key on a packet socket: several hosts may connect, as several programs may open one hidraw device."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from tokenbridge.errors import DeviceError, DeviceRemoved, LinkFailed
from tokenbridge.transport import packets
from tokenbridge.transport.gate import Gate
from tokenbridge.transport.packets import KEY_GONE, PacketSocket


class KeySocket:
    """A `transport.base.DeviceEnd`: the key hears every host, and every host hears the key.

    `send` and `receive` belong to one thread. A key in this process has one host, and leaves with it.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Plugged in at `path`, which `close` removes; without a path, at `in_process`'s other end."""
        self.path = path
        self._hosts: dict[int, PacketSocket] = {}
        self._gate = Gate(self._release, KEY_GONE)
        self._listener = None if path is None else packets.listen(path)
        if self._listener is not None:
            self._listener.setblocking(False)
            self._gate.watch(self._listener.fileno())

    @classmethod
    def in_process(cls) -> tuple[PacketSocket, KeySocket]:
        """The host's end and the key's end."""
        host, key = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end = cls()
        end._welcome(key)
        return PacketSocket(host), end

    def send(self, packet: bytes) -> None:
        """To every host: one that does not read loses the packet, as hidraw's readers do."""
        with self._gate.using():
            for number, host in list(self._hosts.items()):
                try:
                    host.send(packet)
                except LinkFailed:
                    continue
                except DeviceError:
                    self._drop(number)
        self._require_host()

    def receive(self, timeout: float | None) -> bytes | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._gate.waiting():
            while ready := self._gate.ready(deadline):
                for number in ready:
                    packet = self._take(number)
                    if packet is not None:
                        return packet
                self._require_host()
        return None

    def close(self) -> None:
        """Unplug. Also ends a `receive` that waits in another thread."""
        self._gate.close(self._vanish)

    def _vanish(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _take(self, number: int) -> bytes | None:
        """A packet from one host; the listener's number stands for a host that connects."""
        if self._listener is not None and number == self._listener.fileno():
            self._accept(self._listener)
            return None
        try:
            return self._hosts[number].receive(0)
        except DeviceError:
            self._drop(number)
            return None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connected, _address = listener.accept()
            self._welcome(connected)

    def _welcome(self, connected: socket.socket) -> None:
        self._gate.watch(connected.fileno())
        self._hosts[connected.fileno()] = PacketSocket(connected)

    def _drop(self, number: int) -> None:
        self._gate.forget(number)
        self._hosts.pop(number).close()

    def _require_host(self) -> None:
        if self._listener is None and not self._hosts:
            raise DeviceRemoved(KEY_GONE)

    def _release(self) -> None:
        for number in list(self._hosts):
            self._drop(number)
        if self._listener is not None:
            self._listener.close()
