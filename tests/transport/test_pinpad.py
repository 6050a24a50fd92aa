"""Structures of PC/SC part 10, byte by byte, and a PIN typed on a reader that only the control call is faked of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.card.base import PinReference
from tokenbridge.card.channel import Channel
from tokenbridge.card.piv import Piv
from tokenbridge.errors import Cancelled, LinkFailed, PinBlocked, PinUnfit, PinWrong, TimedOut
from tokenbridge.transport import pinpad
from tokenbridge.transport.pcsc import PcscLink, scard

from .conftest import Scard

TEMPLATE = bytes.fromhex("0020008008FFFFFFFFFFFFFFFF")
CONTROL = 0x42330006
FEATURES = bytes.fromhex("060442330006" + "0A0442330010")


class Never:
    def check(self) -> None:
        return


# --- bytes -----------------------------------------------------------------------------------------------------


def test_structure_around_a_piv_verify() -> None:
    assert pinpad.verify_structure(TEMPLATE, min_length=6, max_length=8).hex(" ") == " ".join(
        [
            "1e",  # bTimeOut: 30 seconds
            "1e",  # bTimeOut2
            "82",  # bmFormatString: bytes, position 0, left justified, ASCII
            "08",  # bmPINBlockString: block of 8 bytes
            "00",  # bmPINLengthFormat
            "08 06",  # wPINMaxExtraDigit: 6 to 8, little-endian
            "02",  # bEntryValidationCondition: validation key
            "ff",  # bNumberMessage
            "09 04",  # wLangId
            "00",  # bMsgIndex
            "00 00 00",  # bTeoPrologue
            "0d 00 00 00",  # ulDataLength
            "00 20 00 80 08 ff ff ff ff ff ff ff ff",
        ]
    )


def test_features() -> None:
    assert pinpad.parse_features(FEATURES) == {0x06: 0x42330006, 0x0A: 0x42330010}


@pytest.mark.parametrize("data", ["", "06", "0604423300", "060342330006", "0605423300060A"])
def test_what_is_no_feature_is_ignored(data: str) -> None:
    assert pinpad.parse_features(bytes.fromhex(data)) == {}


def test_a_truncated_last_feature_is_ignored() -> None:
    assert pinpad.parse_features(FEATURES[:-1]) == {0x06: 0x42330006}


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_answer_gives_a_bounded_table(data: bytes) -> None:
    features = pinpad.parse_features(data)
    assert len(features) <= pinpad.MAX_FEATURES
    assert all(0 <= tag < 256 and 0 <= code < 1 << 32 for tag, code in features.items())


# --- at the reader ---------------------------------------------------------------------------------------------


def test_a_reader_without_features_has_no_pad(fake_scard: Scard) -> None:
    assert not PcscLink("Reader").has_pin_pad
    fake_scard.control = lambda code, data: (0, [0x0A, 4, 0, 0, 0, 1])
    assert not PcscLink("Reader").has_pin_pad


def pad(fake_scard: Scard, answer: bytes, code: int = 0) -> Piv:
    """A PIV card in a reader whose pad gives `answer`."""

    def control(asked: int, data: list[int]) -> tuple[int, list[int]]:
        if asked == scard.SCARD_CTL_CODE(pinpad.FEATURE_REQUEST_CODE):
            return 0, list(FEATURES)
        assert asked == CONTROL
        assert bytes(data) == pinpad.verify_structure(TEMPLATE, min_length=6, max_length=8)
        return code, list(answer)

    fake_scard.control = control
    link = PcscLink("Reader")
    assert link.has_pin_pad
    return Piv(Channel(link, Never()))


def test_right_pin_typed(fake_scard: Scard) -> None:
    pad(fake_scard, b"\x90\0").verify_on_reader(PinReference.APPLICATION)
    assert fake_scard.sent == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [("63C2", PinWrong), ("6983", PinBlocked), ("6401", Cancelled), ("6400", TimedOut), ("6403", PinUnfit)],
)
def test_what_pad_or_card_says(fake_scard: Scard, answer: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        pad(fake_scard, bytes.fromhex(answer)).verify_on_reader(PinReference.APPLICATION)
    if isinstance(caught.value, PinWrong):
        assert caught.value.tries_left == 2
    if isinstance(caught.value, Cancelled):
        assert caught.value.by == "user"


@pytest.mark.parametrize("answer", [b"", b"\x90"])
def test_a_pad_that_answers_nothing(fake_scard: Scard, answer: bytes) -> None:
    with pytest.raises(LinkFailed):
        pad(fake_scard, answer).verify_on_reader(PinReference.APPLICATION)


def test_a_pad_that_fails(fake_scard: Scard) -> None:
    with pytest.raises(LinkFailed) as caught:
        pad(fake_scard, b"", scard.SCARD_E_NOT_TRANSACTED).verify_on_reader(PinReference.APPLICATION)
    assert "80100016" in caught.value.detail
