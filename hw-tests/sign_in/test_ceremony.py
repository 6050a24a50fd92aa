"""Sign-ins on the real pcscd, from bridge to relying party: what goes well, and what a person can get wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pyotp
import pytest

from tokenbridge.rig.card_state import CardProfile, TriesWord
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.rig.pki import RigPki, Variant
from tokenbridge.rig.plugin import CardMaker, Slots
from tokenbridge.rig.provision import Staff
from tokenbridge.rig.workplace import PASSWORD
from tokenbridge.transport.pcsc import PcscLink

pytestmark = pytest.mark.pcscd

SIGNING = {0x9A: Algorithm.RSA2048}
P256 = {0x9A: Algorithm.P256}
PIN = {"pin": ["123456"]}


@pytest.mark.parametrize("extended", [False, True], ids=["short", "extended"])
@pytest.mark.parametrize(
    "algorithm", [Algorithm.RSA2048, Algorithm.RSA3072, Algorithm.RSA4096, Algorithm.P256, Algorithm.P384]
)
def test_every_key_signs_in_at_aal3_without_a_challenge(
    person: Any, slots: Slots, make_card: CardMaker, algorithm: Algorithm, extended: bool
) -> None:
    card = make_card(Staff(keys={0x9A: algorithm}), CardProfile(extended_length=extended)).card
    slots.insert(card)
    told = person.sign_in()
    assert told.decision == "allow"
    outcome = told.last["outcome"]
    assert outcome["assurance"]["aal"] == 3
    assert outcome["assurance"]["amr"] == ["sc", "hwk", "pin", "mfa"]
    assert outcome["suppressed"] == ["totp"]
    assert "no text message or app code needed" in outcome["sentence"]


@pytest.mark.parametrize(("keys", "new", "known"), [(SIGNING, 12, 8), (P256, 9, 6)], ids=["RSA-2048", "P-256"])
def test_apdus_of_a_sign_in(
    person: Any, slots: Slots, make_card: CardMaker, keys: dict[int, Algorithm], new: int, known: int
) -> None:
    connection = slots.insert(make_card(Staff(keys=keys)).card)
    connection.reset_counters()
    assert person.sign_in().decision == "allow"
    first = connection.apdus
    connection.reset_counters()
    assert person.sign_in().decision == "allow"
    assert (first, connection.apdus) == (new, known)


def test_the_prompt_says_who_asks_whose_card_and_how_many_tries(person: Any, rig_card: Any, workplace: Any) -> None:
    question = person.sign_in().prompts("pin")[0]
    assert question["rp_name"] == "Test Hospital"
    assert question["origin"] == workplace.origin
    assert question["holder"] == "000123456789"
    assert question["tries_left"] == 3
    assert "(" in question["program"]


def test_wrong_pin_is_told_with_tries_left_and_asked_again(person: Any, rig_card: Any) -> None:
    told = person.sign_in({"pin": ["654321", "123456"]})
    assert told.steps("try-again")[0]["tries_left"] == 2
    assert [q["tries_left"] for q in told.prompts("pin")] == [3, 2]
    assert told.decision == "allow"
    assert rig_card.card.tries_left() == 3


def test_declining_after_a_wrong_pin_ends_with_that_error(person: Any, rig_card: Any) -> None:
    assert person.sign_in({"pin": ["654321"]}).error == "pin-wrong"
    assert rig_card.card.tries_left() == 2


@pytest.mark.parametrize("unfit", ["12345", "123456789", "12345a", "", "pässwort"])
def test_what_can_not_be_a_pin_is_never_sent(person: Any, rig_card: Any, unfit: str) -> None:
    rig_card.reset_counters()
    told = person.sign_in({"pin": [unfit]})
    assert told.error == "pin-unfit"
    assert rig_card.card.tries_left() == 3
    verifies = [e for e in rig_card.trace if e.command[1] == 0x20 and len(e.command) > 5]
    assert verifies == []


def test_last_try_is_spent_only_with_consent(person: Any, rig_card: Any) -> None:
    rig_card.card.set_tries(PinRef.APPLICATION, 1)
    told = person.sign_in(PIN)
    assert told.prompts("last-try")
    assert not told.prompts("pin")
    assert told.error == "cancelled"
    assert rig_card.card.tries_left() == 1
    assert person.sign_in({"last-try": ["yes"], **PIN}).decision == "allow"
    assert rig_card.card.tries_left() == 3


def test_blocked_pin_is_not_asked_for_and_can_be_unblocked(person: Any, rig_card: Any, workplace: Any) -> None:
    rig_card.card.set_tries(PinRef.APPLICATION, 1)
    told = person.sign_in({"last-try": ["yes"], "pin": ["654321"]})
    assert told.error == "pin-blocked"
    told = person.sign_in(PIN)
    assert told.error == "pin-blocked"
    assert not told.prompts("pin")
    assert "pin unblock" in told.last["error"]["next_step"]
    wrong = workplace.run("card", "pin", "unblock", secrets={"--puk-fd": "87654321", "--new-pin-fd": "111222"})
    assert wrong.code == 4
    workplace.must("card", "pin", "unblock", secrets={"--puk-fd": "12345678", "--new-pin-fd": "111222"})
    assert person.sign_in({"pin": ["111222"]}).decision == "allow"


def test_pin_change(person: Any, rig_card: Any, workplace: Any) -> None:
    bad = workplace.run("card", "pin", "change", secrets={"--pin-fd": "123456", "--new-pin-fd": "12"})
    assert (bad.code, rig_card.card.tries_left()) == (4, 3)
    workplace.must("card", "pin", "change", secrets={"--pin-fd": "123456", "--new-pin-fd": "22334455"})
    assert person.sign_in(PIN).error == "pin-wrong"
    assert person.sign_in({"pin": ["22334455"]}).decision == "allow"


KINDS = (
    CardProfile(gzip_certificates=True),
    CardProfile(discovery=Discovery.BOTH_GLOBAL_PRIMARY),
    CardProfile(discovery=Discovery.NONE),
    CardProfile(tries_word=TriesWord.SHORT),
)


@pytest.mark.parametrize("profile", KINDS, ids=["gzip", "global PIN", "no discovery object", "630x"])
def test_kinds_of_cards(person: Any, slots: Slots, make_card: CardMaker, profile: CardProfile) -> None:
    slots.insert(make_card(Staff(keys=P256), profile).card)
    assert person.sign_in().decision == "allow"
    assert person.sign_in().decision == "allow"


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (Variant.EXPIRED, "expired"),
        (Variant.NOT_YET_VALID, "not valid yet"),
        (Variant.WRONG_USAGE, "not meant for signing in"),
        (Variant.UNKNOWN_ISSUER, "does not accept who issued"),
    ],
)
def test_unfit_certificates_are_told_apart_and_no_pin_is_asked(
    person: Any, slots: Slots, make_card: CardMaker, variant: Variant, words: str
) -> None:
    slots.insert(make_card(Staff(keys=P256, variant=variant)).card)
    told = person.sign_in()
    assert told.error == "no-usable-certificate"
    assert words in told.last["error"]["message"]
    assert not told.prompts("pin")


def test_empty_card_has_no_certificate(person: Any, slots: Slots, make_card: CardMaker) -> None:
    slots.insert(make_card(Staff(keys={})).card)
    told = person.sign_in()
    assert told.error == "no-usable-certificate"


def test_revoked_certificate_is_refused_by_the_relying_party(
    person: Any, slots: Slots, make_card: CardMaker, rig_pki: RigPki, workplace: Any
) -> None:
    made = make_card(Staff(keys=P256))
    slots.insert(made.card)
    assert person.sign_in().decision == "allow"
    rig_pki.revoke(made.certificates[0x9A], at=datetime.now(UTC))
    rig_pki.save(workplace.directory / "pki")
    workplace.stop_server()
    workplace.start_server()
    told = person.sign_in()
    assert told.error == "rejected"
    assert told.last["error"]["reason"] == "certificate-revoked"


def test_card_without_piv_is_named_and_no_pin_is_asked(person: Any, cac_card: Any) -> None:
    told = person.sign_in(reader="Virtual PCD 00 01")
    assert told.error == "card-unsupported"
    assert "no PIV applet" in told.last["error"]["message"]
    assert not told.prompts("pin")


def test_two_cards_that_fit_are_offered(person: Any, slots: Slots, make_card: CardMaker) -> None:
    first = slots.insert(make_card(Staff(keys=P256)).card, 0)
    second = slots.insert(make_card(Staff(keys=P256)).card, 1)
    first.reset_counters()
    second.reset_counters()
    told = person.sign_in({"choose": ["Virtual PCD 00 01"], **PIN})
    assert [option["id"] for option in told.prompts("choose")[0]["options"]] == [
        "Virtual PCD 00 00",
        "Virtual PCD 00 01",
    ]
    assert told.decision == "allow"
    assert any(e.command[1] == 0x87 for e in second.trace)
    assert not any(e.command[1] == 0x87 for e in first.trace)


def test_one_of_two_cards_fits_and_nobody_is_asked(person: Any, slots: Slots, make_card: CardMaker) -> None:
    slots.insert(make_card(Staff(keys=P256, variant=Variant.EXPIRED)).card, 0)
    slots.insert(make_card(Staff(keys=P256)).card, 1)
    told = person.sign_in()
    assert told.decision == "allow"
    assert not told.prompts("choose")


def test_waits_for_a_card_and_takes_it(person: Any, slots: Slots, make_card: CardMaker) -> None:
    card = make_card(Staff(keys=P256)).card
    person.on_step = lambda line: slots.insert(card) if line["step"] == "waiting-for-device" else None
    assert person.sign_in().decision == "allow"


def test_nobody_inserts_a_card(person: Any, workplace: Any) -> None:
    assert person.sign_in(wait_seconds=0.2).error == "no-device"


def test_card_taken_out_during_the_prompt_can_come_back(person: Any, rig_card: Any) -> None:
    """The question is withdrawn, and asked again when the card is there again."""
    with person.begin() as stream:
        kinds = []
        for line in stream:
            kinds.append(line.get("step") or line.get("kind") or line["event"])
            if line["event"] == "prompt" and kinds.count("pin") == 1:
                rig_card.stop()
            elif line.get("step") == "waiting-for-device" and not rig_card.inserted:
                rig_card.start()
            elif line["event"] == "prompt":
                stream.answer(line["id"], b"123456")
    assert kinds == ["pin", "withdrawn", "card-removed", "waiting-for-device", "pin", "done"]


def test_second_program_learns_at_once_who_is_busy(person: Any, rig_card: Any) -> None:
    with person.begin() as first:
        question = next(line for line in first if line["event"] == "prompt")
        told = person.sign_in()
        assert told.error == "device-busy"
        assert question["program"] in told.last["error"]["message"]
        first.answer(question["id"], b"123456")
        assert list(first)[-1]["outcome"]["decision"] == "allow"


def test_client_that_goes_away_frees_the_card(person: Any, rig_card: Any) -> None:
    with person.begin() as first:
        question = next(line for line in first if line["event"] == "prompt")
    for _ in range(100):  # until the bridge has noticed, which takes it a moment
        if (told := person.sign_in()).error != "device-busy":
            break
    assert told.decision == "allow"
    with pytest.raises(Exception, match="Nobody is asking"):
        person.bridge.request("POST", f"/v1/prompts/{question['id']}", b"123456")


def test_card_held_by_another_program_is_its_own_error(person: Any, rig_card: Any) -> None:
    link = PcscLink("Virtual PCD 00 00")
    with link.transaction():
        told = person.sign_in()
    link.close()
    assert told.error == "device-busy"
    assert told.last["error"]["by"]
    assert person.sign_in().decision == "allow"


def test_a_card_is_not_left_unlocked_for_others(person: Any, rig_card: Any) -> None:
    assert person.sign_in().decision == "allow"
    link = PcscLink("Virtual PCD 00 00")
    with link.transaction():
        link.transmit(bytes.fromhex("00a4040009a0000003080000100000"))
        assert link.transmit(bytes.fromhex("00200080")).hex() == "63c3"
    link.close()


def test_password_is_challenged_and_the_code_signs_in(person: Any, workplace: Any) -> None:
    code = pyotp.TOTP(workplace.totp_secret).at(datetime.now(UTC))
    told = person.sign_in({"password": [PASSWORD], "code": ["000000", code]}, username="ada")
    assert told.steps("challenged")
    assert told.steps("try-again")
    assert told.decision == "allow"
    assert told.last["outcome"]["assurance"]["aal"] == 2


def test_site_of_another_origin_gets_no_signature(person: Any, rig_card: Any, workplace: Any) -> None:
    """The server says it is https://localhost:PORT; asked by another name of the same machine, the bridge refuses."""
    rig_card.reset_counters()
    told = person.sign_in(url=workplace.origin.replace("localhost", "127.0.0.1"))
    assert told.error == "origin-refused"
    assert rig_card.apdus == 0


def test_untrusted_certificate_of_a_site(person: Any, workplace: Any) -> None:
    told = person.sign_in(ca="")
    assert told.error == "rp-unavailable"
    assert "not trusted" in told.last["error"]["message"]


@pytest.mark.skipif(os.getuid() != 0, reason="takes another user's identity, which needs root")
def test_other_users_can_not_reach_the_socket(workplace: Any) -> None:
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(13)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(workplace.socket)], check=False)
    assert done.returncode == 13
