"""PIN, PUK and their counters at the card edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig.card_state import DEFAULT_SECOND_PIN, TriesWord
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS

from .conftest import Host, pad


def test_nothing_is_answered_before_select(make_host) -> None:
    host = make_host(selected=False)
    assert host.verify() == 0x6D00
    assert host.get(0x7E).sw == 0x6D00


def test_status_query_tells_tries_until_verified(host: Host) -> None:
    assert host.tries() == 0x63C3
    assert host.verify() == 0x9000
    assert host.tries() == 0x9000


def test_wrong_pin_counts_down_then_blocks(host: Host) -> None:
    assert [host.verify(b"999999") for _ in range(4)] == [0x63C2, 0x63C1, 0x63C0, 0x6983]
    assert host.tries() == 0x6983
    assert host.verify() == 0x6983, "the right PIN does not open a blocked card"


def test_right_pin_gives_all_tries_back(host: Host) -> None:
    host.verify(b"999999")
    assert host.verify() == 0x9000
    host.card.reset()
    host.select()
    assert host.tries() == 0x63C3


def test_wrong_pin_takes_verification_away(host: Host) -> None:
    host.verify()
    host.verify(b"999999")
    assert host.tries() == 0x63C2


@pytest.mark.parametrize("data", [b"12345\xff\xff\xff", b"12345a\xff\xff", b"123456", b"\xff" * 8, b"123\xff4567"])
def test_what_cannot_be_a_pin_costs_no_try(host: Host, data: bytes) -> None:
    assert host.send(INS.VERIFY, 0, 0x80, data, le=None).sw == 0x6A80
    assert host.tries() == 0x63C3


def test_cards_that_answer_630x(make_host) -> None:
    host = make_host(tries_word=TriesWord.SHORT)
    assert host.tries() == 0x6303
    assert [host.verify(b"999999") for _ in range(3)] == [0x6302, 0x6301, 0x6983]


def test_log_out(host: Host) -> None:
    host.verify()
    assert host.send(INS.VERIFY, 0xFF, 0x80, le=None).ok
    assert host.tries() == 0x63C3


def test_reset_forgets_pin_and_selection(host: Host) -> None:
    host.verify()
    host.card.reset()
    assert host.tries() == 0x6D00
    host.select()
    assert host.tries() == 0x63C3


def test_selecting_again_or_something_unknown_keeps_the_pin(host: Host) -> None:
    host.verify()
    assert host.select().ok
    assert host.send(INS.SELECT, 4, 0, bytes.fromhex("A0000000010101")).sw == 0x6A82
    assert host.tries() == 0x9000


def test_change_pin(host: Host) -> None:
    change = pad(b"123456") + pad(b"24681357")
    assert host.send(INS.CHANGE_REFERENCE_DATA, 0, 0x80, change, le=None).ok
    assert host.verify() == 0x63C2
    assert host.verify(b"24681357") == 0x9000


@pytest.mark.parametrize(("new", "sw"), [(b"12345", 0x6A80), (b"abcdef", 0x6A80)])
def test_change_to_an_unfit_pin_costs_no_try(host: Host, new: bytes, sw: int) -> None:
    assert host.send(INS.CHANGE_REFERENCE_DATA, 0, 0x80, pad(b"123456") + pad(new), le=None).sw == sw
    assert host.tries() == 0x63C3


def test_change_with_wrong_old_pin_costs_a_try(host: Host) -> None:
    assert host.send(INS.CHANGE_REFERENCE_DATA, 0, 0x80, pad(b"111111") + pad(b"222222"), le=None).sw == 0x63C2


def test_change_puk(host: Host) -> None:
    assert host.send(INS.CHANGE_REFERENCE_DATA, 0, 0x81, b"12345678" + b"87654321", le=None).ok
    assert host.send(INS.RESET_RETRY_COUNTER, 0, 0x80, b"12345678" + pad(b"222222"), le=None).sw == 0x63C2
    assert host.send(INS.RESET_RETRY_COUNTER, 0, 0x80, b"87654321" + pad(b"222222"), le=None).ok


def test_unblock_a_blocked_pin(host: Host) -> None:
    host.card.set_tries(PinRef.APPLICATION, 0)
    assert host.send(INS.RESET_RETRY_COUNTER, 0, 0x80, b"12345678" + pad(b"777777"), le=None).ok
    assert host.tries() == 0x63C3
    assert host.verify(b"777777") == 0x9000


def test_puk_blocks_too(host: Host) -> None:
    wrong = b"00000000" + pad(b"777777")
    words = [host.send(INS.RESET_RETRY_COUNTER, 0, 0x80, wrong, le=None).sw for _ in range(4)]
    assert words == [0x63C2, 0x63C1, 0x63C0, 0x6983]


@pytest.mark.parametrize(
    ("kind", "usage", "primary", "other"),
    [
        (Discovery.APPLICATION, 0x4000, 0x80, None),
        (Discovery.BOTH_APPLICATION_PRIMARY, 0x6010, 0x80, 0x00),
        (Discovery.BOTH_GLOBAL_PRIMARY, 0x6020, 0x00, 0x80),
    ],
)
def test_discovery_says_which_pin(make_host, kind: Discovery, usage: int, primary: int, other: int | None) -> None:
    host = make_host(discovery=kind)
    found = tlv.find(host.get(0x7E).data, 0x7E, 0x5F2F)
    assert found == usage.to_bytes(2, "big")
    assert host.verify(b"123456", primary) == 0x9000
    if other is None:
        assert host.verify(b"123456", 0x00) == 0x6A88
    else:
        assert host.verify(b"123456", other) == 0x63C2
        assert host.verify(DEFAULT_SECOND_PIN, other) == 0x9000


def test_no_discovery_object(make_host) -> None:
    host = make_host(discovery=Discovery.NONE)
    assert host.get(0x7E).sw == 0x6A82
    assert host.verify() == 0x9000


def test_a_spent_try_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    host = Host(VirtualCard.create(path=path))
    host.select()
    host.verify(b"999999")
    survivor = VirtualCard.load(path)
    assert survivor.tries_left() == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["card.json"], "no temporary file stays behind"


def test_a_file_that_cannot_be_replaced_gives_no_free_tries(tmp_path: Path, mocker) -> None:
    path = tmp_path / "card.json"
    host = Host(VirtualCard.create(path=path))
    host.select()
    mocker.patch("os.replace", side_effect=OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        host.verify(b"999999")
    assert host.card.tries_left() == 2, "the try is spent in memory even if it could not be written"
    assert VirtualCard.load(path).tries_left() == 3, "the old file is whole"


@pytest.mark.parametrize(
    "content", ["", "{}", '{"format": "other"}', "[1]", '{"format": "tokenbridge-virtual-card:1"}']
)
def test_not_a_card_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(SetupError, match="not a virtual card"):
        VirtualCard.load(path)
    with pytest.raises(SetupError, match="no virtual card"):
        VirtualCard.load(tmp_path / "absent.json")
