"""Commands to a card over a link: chaining, GET RESPONSE, extended length, and a check for cancel between two APDUs."""

from __future__ import annotations

from typing import Protocol

from tokenbridge.errors import BadCardData
from tokenbridge.transport.base import CardLink
from tokenbridge.wire import chaining
from tokenbridge.wire.apdu import SW, ApduError, Command, Response


class Check(Protocol):
    """Raises when the work should not go on (`transport.worker.Cancel`)."""

    def check(self) -> None: ...


class Channel:
    """Sends whole commands; the answer's status word is the caller's to judge."""

    def __init__(self, link: CardLink, cancel: Check) -> None:
        self.link = link
        self._cancel = cancel
        self._extended = link.extended_length

    def send(self, command: Command) -> Response:
        """Raises the `DeviceError` family, `Cancelled`, and `BadCardData` for answers outside ISO 7816-4."""
        try:
            response = chaining.run(command, self._transmit, extended=self._extended)
            if self._extended and response.sw == SW.WRONG_LENGTH and chaining.needs_extended(command):
                # The ATR promised extended length, the card or its reader does not keep it. A command that was short
                # anyway is never sent again: it may carry a PIN.
                self._extended = False
                response = chaining.run(command, self._transmit)
        except (chaining.EndlessResponse, ApduError) as err:
            raise BadCardData(detail=f"{command.header.hex()}: {err}") from err
        return response

    def _transmit(self, apdu: bytes) -> bytes:
        self._cancel.check()
        return self.link.transmit(apdu)
