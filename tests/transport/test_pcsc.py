"""The translation of PC/SC's codes, answers to reset, T=0, and failures that a removal explains."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    DeviceBusy,
    DeviceError,
    DeviceRemoved,
    LinkFailed,
    NoDevice,
    SetupError,
    TimedOut,
)
from tokenbridge.rig.virtual_card import make_atr
from tokenbridge.transport import pcsc
from tokenbridge.transport.holders import holders
from tokenbridge.transport.pcsc import CardReset, PcscLink, ReaderState, ServiceGone, atr_says_extended, scard
from tokenbridge.transport.trace import TraceFile

from .conftest import EMPTY, PRESENT, Scard

SELECT = bytes.fromhex("00A4040009A0000003080000100000")
VERIFY = bytes.fromhex("0020008008313233343536FFFF")

# --- codes -----------------------------------------------------------------------------------------------------

CODES = [
    (scard.SCARD_E_NO_SERVICE, ServiceGone, "8010001D"),
    (scard.SCARD_E_SERVICE_STOPPED, ServiceGone, "8010001E"),
    (scard.SCARD_F_COMM_ERROR, ServiceGone, "80100013"),
    (scard.SCARD_E_INVALID_HANDLE, ServiceGone, "80100003"),
    (scard.SCARD_W_REMOVED_CARD, DeviceRemoved, "80100069"),
    (scard.SCARD_E_READER_UNAVAILABLE, DeviceRemoved, "80100017"),
    (scard.SCARD_E_UNKNOWN_READER, DeviceRemoved, "80100009"),
    (scard.SCARD_E_NO_SMARTCARD, DeviceRemoved, "8010000C"),
    (scard.SCARD_E_NO_READERS_AVAILABLE, NoDevice, "8010002E"),
    (scard.SCARD_E_SHARING_VIOLATION, DeviceBusy, "8010000B"),
    (scard.SCARD_W_SECURITY_VIOLATION, AccessDenied, "8010006A"),
    (scard.SCARD_E_TIMEOUT, TimedOut, "8010000A"),
    (scard.SCARD_W_RESET_CARD, CardReset, "80100068"),
    (scard.SCARD_E_NOT_TRANSACTED, LinkFailed, "80100016"),
    (scard.SCARD_F_INTERNAL_ERROR, LinkFailed, "80100001"),
    (scard.SCARD_W_UNRESPONSIVE_CARD, LinkFailed, "80100066"),
    (scard.SCARD_W_UNPOWERED_CARD, LinkFailed, "80100067"),
    (scard.SCARD_E_PROTO_MISMATCH, LinkFailed, "8010000F"),
    (0x12345678, LinkFailed, "12345678"),
]


@pytest.mark.parametrize(("code", "kind", "raw"), CODES)
def test_each_code_is_its_own_error_and_keeps_the_code(code: int, kind: type[DeviceError], raw: str) -> None:
    with pytest.raises(DeviceError) as caught:
        pcsc._check(code, "SCardTransmit")
    assert type(caught.value) is kind
    assert raw in caught.value.detail
    assert "SCardTransmit" in caught.value.detail
    assert raw not in json.dumps(caught.value.as_dict())


def test_every_code_in_the_table_is_tested() -> None:
    assert {code for code in pcsc._ERRORS if code != scard.SCARD_E_NO_ACCESS} <= {code for code, _, _ in CODES}


def test_no_access_is_no_access() -> None:
    with pytest.raises(AccessDenied):
        pcsc._check(scard.SCARD_E_NO_ACCESS, "SCardEstablishContext")


def test_success_and_cancel() -> None:
    pcsc._check(scard.SCARD_S_SUCCESS, "SCardConnect")
    with pytest.raises(Cancelled) as caught:
        pcsc._check(scard.SCARD_E_CANCELLED, "SCardGetStatusChange")
    assert caught.value.by == "caller"


def test_no_reader_is_an_empty_list(fake_scard: Scard, mocker) -> None:
    mocker.patch.object(scard, "SCardListReaders", return_value=(scard.SCARD_E_NO_READERS_AVAILABLE, []))
    assert pcsc.Context().readers() == []


@pytest.mark.parametrize(
    ("raw", "present"),
    [
        (EMPTY, False),
        (PRESENT, True),
        (PRESENT | scard.SCARD_STATE_INUSE, True),
        (PRESENT | scard.SCARD_STATE_MUTE, False),
        (scard.SCARD_STATE_UNKNOWN, False),
        (0, False),
    ],
)
def test_presence(raw: int, present: bool) -> None:
    assert ReaderState("Reader", raw | 0x00050000, b"").present is present
    assert ReaderState("Reader", raw | 0x00050000, b"").insertions == 5


# --- answers to reset ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atr", "extended"),
    [
        (make_atr(extended=True).hex(), True),
        (make_atr(extended=False).hex(), False),
        ("3BD6970081B1FE451F878031C152411A2B", False),
        ("3B80800101", False),
        ("3BF81300008131FE15597562696B657934D4", False),
        ("3BFD1300008131FE158073C021C057597562694B657940", True),
        ("3B8A80010031C173C84000900090", False),
        ("3B8A80010031C173C84040900090", True),
        ("", False),
        ("3B", False),
        ("3B0F", False),
        ("3BFF", False),
        ("3BFFFFFFFFFFFFFFFFFF", False),
    ],
)
def test_extended_length_by_atr(atr: str, extended: bool) -> None:
    assert atr_says_extended(bytes.fromhex(atr)) is extended


@pytest.mark.parametrize("extended", [False, True])
def test_truncated_atrs_never_raise_and_never_promise(extended: bool) -> None:
    atr = make_atr(extended=extended)
    for length in range(len(atr) - 2):
        assert not atr_says_extended(atr[:length])


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_atr_has_an_answer(atr: bytes) -> None:
    assert atr_says_extended(atr) in (True, False)


def test_extended_length_needs_t1(fake_scard: Scard) -> None:
    fake_scard.atr = make_atr(extended=True)
    assert PcscLink("Reader").extended_length
    fake_scard.protocol = scard.SCARD_PROTOCOL_T0
    assert not PcscLink("Reader").extended_length


# --- transmission ----------------------------------------------------------------------------------------------


def test_t1_sends_commands_as_they_are(fake_scard: Scard) -> None:
    assert PcscLink("Reader").transmit(SELECT) == b"\x90\0"
    assert fake_scard.sent == [(scard.SCARD_PCI_T1, SELECT)]


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (SELECT, SELECT[:-1]),
        (VERIFY, VERIFY),
        (bytes.fromhex("00200080"), bytes.fromhex("00200080")),
        (bytes.fromhex("00C0000000"), bytes.fromhex("00C0000000")),
        (bytes.fromhex("00CB3FFF055C035FC10500"), bytes.fromhex("00CB3FFF055C035FC105")),
    ],
)
def test_t0_commands_with_data_carry_no_le(fake_scard: Scard, command: bytes, sent: bytes) -> None:
    fake_scard.protocol = scard.SCARD_PROTOCOL_T0
    PcscLink("Reader").transmit(command)
    assert fake_scard.sent == [(scard.SCARD_PCI_T0, sent)]


def test_a_link_that_cannot_be_opened_gives_its_context_back(fake_scard: Scard) -> None:
    fake_scard.connect = scard.SCARD_E_NO_SMARTCARD
    with pytest.raises(DeviceRemoved):
        PcscLink("Reader")
    assert fake_scard.calls == ["establish", "release"]


def test_close_leaves_the_card_as_it_is(fake_scard: Scard) -> None:
    PcscLink("Reader").close()
    assert fake_scard.calls[-2:] == ["disconnect", "release"]


@pytest.mark.parametrize("answer", [b"", b"\x90"])
@pytest.mark.parametrize("first", [[], [(0, PRESENT)]])
def test_success_without_an_answer_is_explained_by_a_removal(
    fake_scard: Scard, answer: bytes, first: list[tuple[int, int]]
) -> None:
    link = PcscLink("Reader")
    fake_scard.transmit = lambda _: (0, answer)
    fake_scard.states = [*first, (0, EMPTY)]
    with pytest.raises(DeviceRemoved) as caught:
        link.transmit(SELECT)
    assert "shorter than a status word" in caught.value.detail


def test_success_without_an_answer_of_a_card_that_stays_is_a_failed_link(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.transmit = lambda _: (0, b"")
    fake_scard.states = [(0, PRESENT)]
    with pytest.raises(LinkFailed):
        link.transmit(SELECT)


def test_a_failure_keeps_its_code_when_a_removal_explains_it(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.transmit = lambda _: (scard.SCARD_E_NOT_TRANSACTED, b"")
    fake_scard.states = [(0, EMPTY)]
    with pytest.raises(DeviceRemoved) as caught:
        link.transmit(SELECT)
    assert "80100016" in caught.value.detail


def test_a_service_that_ends_explains_a_failure_too(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.transmit = lambda _: (scard.SCARD_E_NOT_TRANSACTED, b"")
    fake_scard.states = [(scard.SCARD_E_NO_SERVICE, 0)]
    with pytest.raises(ServiceGone):
        link.transmit(SELECT)


def test_a_reader_pulled_with_its_card_is_a_removal(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.transmit = lambda _: (scard.SCARD_F_INTERNAL_ERROR, b"")
    fake_scard.states = [(scard.SCARD_E_UNKNOWN_READER, 0)]
    with pytest.raises(DeviceRemoved):
        link.transmit(SELECT)


# --- transactions ----------------------------------------------------------------------------------------------


def test_transaction_and_reset(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    with link.transaction():
        pass
    with pytest.raises(KeyError), link.transaction(reset_after=True):
        raise KeyError
    assert fake_scard.calls[1:] == ["begin", "end", "begin", "end reset"]


def test_a_card_that_was_reset_is_reconnected(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.begin = [scard.SCARD_W_RESET_CARD]
    with link.transaction():
        pass
    assert fake_scard.calls[1:] == ["begin", "reconnect", "begin", "end"]


def test_a_card_that_is_reset_over_and_over_is_given_up(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.begin = [scard.SCARD_W_RESET_CARD] * 9
    with pytest.raises(LinkFailed), link.transaction():
        pass
    assert "end" not in fake_scard.calls


def test_a_card_that_is_gone_begins_no_transaction(fake_scard: Scard) -> None:
    link = PcscLink("Reader")
    fake_scard.begin = [scard.SCARD_W_REMOVED_CARD]
    with pytest.raises(DeviceRemoved), link.transaction():
        pass
    assert not link.waiting_for_transaction


# --- what is kept of it ----------------------------------------------------------------------------------------


def test_trace_file_masks_pins_and_is_private(fake_scard: Scard, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    trace = TraceFile(path)
    link = PcscLink("Reader", trace)
    link.transmit(SELECT)
    link.transmit(VERIFY)
    link.transmit(b"\x10" + VERIFY[1:])
    link.transmit(bytes.fromhex("0024008010") + b"123456\xff\xff654321\xff\xff")
    link.transmit(bytes.fromhex("002C008010") + b"12345678654321\xff\xff")
    link.transmit(bytes.fromhex("00200080000008") + b"123456\xff\xff")
    trace.close()
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0] == {
        "reader": "Reader", "command": SELECT.hex(), "response": "9000", "microseconds": lines[0]["microseconds"]
    }  # fmt: skip
    assert lines[1]["command"] == "0020008008" + "ff" * 8
    assert b"123456".hex() not in text
    assert b"654321".hex() not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_trace_file_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.touch(mode=0o644)
    path.chmod(0o644)
    TraceFile(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_trace_file_that_cannot_be_made_is_a_matter_of_set_up(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        TraceFile(tmp_path / "missing" / "trace.jsonl")
    assert "trace.jsonl" in caught.value.message


def program(proc: Path, pid: int, name: str, maps: str | None) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_text(f"{name}\n")
    if maps is not None:
        (folder / "maps").write_text(maps)


LIBRARY = "7f00 r-xp 00000000 08:01 42 /usr/lib/x86_64-linux-gnu/libpcsclite.so.1.0.0\n"


def test_holders(tmp_path: Path, mocker) -> None:
    mocker.patch("os.getpid", return_value=100)
    (tmp_path / "meminfo").touch()
    (tmp_path / "self").mkdir()
    program(tmp_path, 100, "tokenbridge", LIBRARY)
    program(tmp_path, 812, "scdaemon", LIBRARY)
    program(tmp_path, 813, "bash", "/usr/bin/bash\n")
    program(tmp_path, 814, "root's", None)
    assert holders(tmp_path) == "scdaemon (812)"
    for pid in range(900, 910):
        program(tmp_path, pid, "p11", LIBRARY)
    assert holders(tmp_path) == "scdaemon (812), p11 (900), p11 (901)"


def test_nobody_holds_it(tmp_path: Path) -> None:
    assert holders(tmp_path) == ""


def test_busy_names_who_could_be_holding_the_card(fake_scard: Scard, mocker) -> None:
    mocker.patch.object(pcsc, "holders", return_value="scdaemon (812)")
    fake_scard.connect = scard.SCARD_E_SHARING_VIOLATION
    with pytest.raises(DeviceBusy) as caught:
        PcscLink("Reader")
    assert caught.value.by == "scdaemon (812)"
    assert "scdaemon (812)" in caught.value.message
