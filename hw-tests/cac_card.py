"""A foreign card: libcacard's Common Access Card emulation, put into a vpcd slot. A program of its own.

    cac_card.py PORT NSS_DATABASE CERTIFICATE...

The library runs in this process only: it keeps global state and ends the process on some errors. It prints
"recognised" once the reader has asked for the card's answer to reset.
"""

from __future__ import annotations

import ctypes
import sys

from tokenbridge.rig.vpcd import VpcdConnection

READER = "Virtual CAC"
MAX_ANSWER = 65536 + 2
MAX_ATR = 64
FAILURE = b"\x6f\x00"
"""Answer where the library gives none."""


def load_library() -> ctypes.CDLL:
    """libcacard with the signatures of the functions used here."""
    library = ctypes.CDLL("libcacard.so.0")
    pointer, text, length = ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int)
    library.vcard_emul_options.restype = pointer
    library.vcard_emul_options.argtypes = [text]
    library.vcard_emul_init.argtypes = [pointer]
    library.vreader_get_reader_by_name.restype = pointer
    library.vreader_get_reader_by_name.argtypes = [text]
    library.vreader_power_on.argtypes = [pointer, text, length]
    library.vreader_power_off.argtypes = [pointer]
    library.vreader_xfr_bytes.argtypes = [pointer, text, ctypes.c_int, text, length]
    return library


class CacardCard:
    """Card of `tokenbridge.rig.vpcd` on the library's reader."""

    def __init__(self, database: str, certificates: list[str]) -> None:
        self._library = load_library()
        options = f'db="sql:{database}" use_hw=no soft=(,{READER},CAC,,{",".join(certificates)})'
        status = self._library.vcard_emul_init(self._library.vcard_emul_options(options.encode()))
        self._reader = self._library.vreader_get_reader_by_name(READER.encode())
        if not self._reader:
            raise SystemExit(f"libcacard has no card: status {status}")
        self._atr = self._power_on()

    @property
    def atr(self) -> bytes:
        return self._atr

    def reset(self) -> None:
        self._library.vreader_power_off(self._reader)
        self._power_on()

    def transmit(self, apdu: bytes) -> bytes:
        answer = ctypes.create_string_buffer(MAX_ANSWER)
        size = ctypes.c_int(MAX_ANSWER)
        status = self._library.vreader_xfr_bytes(self._reader, apdu, len(apdu), answer, ctypes.byref(size))
        return answer.raw[: size.value] if status == 0 else FAILURE

    def _power_on(self) -> bytes:
        answer = ctypes.create_string_buffer(MAX_ATR)
        size = ctypes.c_int(MAX_ATR)
        self._library.vreader_power_on(self._reader, answer, ctypes.byref(size))
        return answer.raw[: size.value]


def main(arguments: list[str]) -> None:
    port, database, *certificates = arguments
    connection = VpcdConnection(CacardCard(database, certificates), int(port)).start(timeout=20)
    print("recognised", flush=True)
    connection.wait_pulled(timeout=3600)


if __name__ == "__main__":
    main(sys.argv[1:])
