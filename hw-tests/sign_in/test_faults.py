"""The card is pulled around every single APDU, pcscd and server go away: typed errors, no try lost, the next works."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tokenbridge.rig.faults import Action, Fault
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.plugin import Slots
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection
from tokenbridge.rig.workplace import Workplace

pytestmark = pytest.mark.pcscd

NEW_SIGN_IN = 12
LOOKING = 7
"""APDUs before the PIN prompt, of the 12 of an RSA-2048 sign-in with a new card."""


@pytest.mark.parametrize("number", range(1, NEW_SIGN_IN + 1))
@pytest.mark.parametrize("action", [Action.PULL_BEFORE, Action.PULL_UNANSWERED, Action.PULL_AFTER])
def test_card_pulled_around_every_apdu(
    person: Any, slots: Slots, twin: Callable[[], VirtualCard], action: Action, number: int
) -> None:
    connection = slots.insert(twin())
    connection.faults.arm(Fault(action=action, at=number))

    def insert_again(line: dict[str, Any]) -> None:
        if line["step"] == "waiting-for-device" and not connection.inserted:
            connection.faults.disarm()
            connection.start()

    person.on_step = insert_again
    told = person.sign_in({"pin": ["123456", "123456"]})
    if number < LOOKING or (number == LOOKING and action is not Action.PULL_AFTER):
        assert told.steps("card-removed")[0]["code"] == "device-removed"
        assert told.decision == "allow"  # the same sign-in went on when the card was back
    elif number == NEW_SIGN_IN and action is Action.PULL_AFTER:
        assert told.decision == "allow"  # the signature was complete
    else:
        assert told.error == "device-removed"
    assert connection.card.tries_left() == 3
    connection.faults.disarm()
    connection.start()
    assert person.sign_in().decision == "allow"


def _answering(slots: Slots, card: VirtualCard, *faults: Fault) -> VpcdConnection:
    connection = slots.insert(card)
    connection.faults.arm(*faults)
    return connection


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("garbage for SELECT", Fault(action=Action.ANSWER, ins=0xA4, answer=b"\xde\xad\x90\x00")),
        ("lying length in CHUID", Fault(action=Action.ANSWER, ins=0xCB, answer=bytes.fromhex("53ff34109000"))),
        ("endless data", Fault(action=Action.ANSWER, ins=0xCB, at=2, answer=b"\0" * 256 + b"\x61\x00")),
        ("empty more", Fault(action=Action.ANSWER, ins=0xC0, answer=b"\x61\x10", repeat=True)),
        ("nonsense signature", Fault(action=Action.ANSWER, ins=0x87, at=2, answer=bytes.fromhex("7c038201009000"))),
        ("refusal to sign", Fault(action=Action.ANSWER, ins=0x87, at=2, answer=bytes.fromhex("6982"))),
        ("VERIFY that says nothing", Fault(action=Action.ANSWER, ins=0x20, at=2, answer=bytes.fromhex("6f00"))),
    ],
)
def test_lying_card_gives_a_typed_error_and_the_next_one_works(
    person: Any, slots: Slots, twin: Callable[[], VirtualCard], name: str, fault: Fault
) -> None:
    connection = _answering(slots, twin(), fault)
    told = person.sign_in()
    assert told.error in {"card-data", "card-status", "not-permitted", "card-key-mismatch", "link-failed"}, name
    assert connection.card.tries_left() == 3
    connection.faults.disarm()
    assert person.sign_in().decision == "allow"


def test_pcscd_restarts_and_the_bridge_goes_on(person: Any, rig_card: Any, pcscd: PrivatePcscd) -> None:
    assert person.sign_in().decision == "allow"
    pcscd.stop()
    assert _service(person, "down")
    assert person.sign_in(wait_seconds=0.2).error == "pcsc-service-gone"
    pcscd.start()
    assert _service(person, "up")
    assert person.sign_in().decision == "allow"


def test_pcscd_is_killed_while_the_pin_is_asked(person: Any, rig_card: Any, pcscd: PrivatePcscd) -> None:
    with person.begin() as stream:
        kinds = []
        for line in stream:
            kinds.append(line.get("step") or line.get("kind") or line["event"])
            if line["event"] == "prompt" and kinds.count("pin") == 1:
                pcscd.kill()
            elif line.get("step") == "waiting-for-device":
                pcscd.start()
            elif line["event"] == "prompt":
                stream.answer(line["id"], b"123456")
    assert kinds[:3] == ["pin", "withdrawn", "card-removed"]
    assert kinds[-1] == "done"
    assert rig_card.card.tries_left() == 3


def test_bridge_started_before_pcscd(
    pcscd: PrivatePcscd, workplace: Workplace, slots: Slots, twin: Callable[[], VirtualCard], person: Any
) -> None:
    workplace.must("daemon", "stop")
    pcscd.stop()
    assert workplace.must_json("status")["pcsc"] == "down"
    pcscd.start()
    slots.insert(twin())
    assert _service(person, "up")
    assert person.sign_in().decision == "allow"


def test_server_killed_during_the_prompt(person: Any, rig_card: Any, workplace: Workplace) -> None:
    with person.begin() as stream:
        question = next(line for line in stream if line["event"] == "prompt")
        workplace.stop_server(kill=True)
        stream.answer(question["id"], b"123456")
        last = list(stream)[-1]
    workplace.start_server()
    assert last["error"]["code"] == "rp-unavailable"
    assert rig_card.card.tries_left() == 3
    assert person.sign_in().decision == "allow"


def test_bridge_killed_and_started_again(person: Any, rig_card: Any, workplace: Workplace) -> None:
    pid = workplace.must_json("status")["pid"]
    with person.begin() as stream:
        next(line for line in stream if line["event"] == "prompt")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception, match="went away"):
            list(stream)
    again = workplace.must_json("status")
    assert again["pid"] != pid
    assert person.sign_in().decision == "allow"


def _service(person: Any, wanted: str) -> bool:
    """Wait on the event stream until the bridge says that pcscd is `wanted`."""
    with person.bridge.stream("GET", "/v1/events") as events:
        for line in events:
            if line["event"] == "now" and line["pcsc"] == wanted:
                return True
            if line["event"] == f"service-{wanted}":
                return True
    return False
