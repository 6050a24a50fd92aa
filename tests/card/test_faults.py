"""The card leaves before or after every APDU of a sign-in: a typed error, no PIN try lost, the next sign-in works."""

from __future__ import annotations

from functools import cache

import pytest

from tokenbridge.card.sign_in import survey
from tokenbridge.errors import DeviceRemoved, PinWrong
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Discovery

from .conftest import PIN, WRONG_PIN, Bench, DirectLink, Never

RSA_NEW, RSA_KNOWN, EC_NEW, EC_KNOWN = 12, 8, 9, 6


@cache
def every_apdu() -> list[tuple[Algorithm, bool, int]]:
    rows = [(Algorithm.RSA2048, False, RSA_NEW), (Algorithm.RSA2048, True, RSA_KNOWN)]
    rows += [(Algorithm.P256, False, EC_NEW), (Algorithm.P256, True, EC_KNOWN)]
    return [(algorithm, known, n) for algorithm, known, count in rows for n in range(1, count + 1)]


def cut_link(bench: Bench, algorithm: Algorithm, known: bool, **cut: object) -> DirectLink:
    card = bench.card(algorithm)
    if known:
        bench.sign_in(DirectLink(card))
    return DirectLink(card, **cut)


def test_the_numbers_above_cover_the_whole_dialogue(bench: Bench) -> None:
    for algorithm, known, count in (
        (Algorithm.RSA2048, False, RSA_NEW),
        (Algorithm.RSA2048, True, RSA_KNOWN),
        (Algorithm.P256, False, EC_NEW),
        (Algorithm.P256, True, EC_KNOWN),
    ):
        link = cut_link(bench, algorithm, known)
        bench.sign_in(link)
        assert len(link.sent) <= count


@pytest.mark.parametrize("cut_answer", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("algorithm", "known", "n"), every_apdu())
def test_card_pulled_at_an_apdu(bench: Bench, algorithm: Algorithm, known: bool, n: int, cut_answer: bool) -> None:
    link = cut_link(bench, algorithm, known, cut_at=n, cut_answer=cut_answer)
    whole = DirectLink(link.card)
    memory = dict(bench.remembered)
    bench.sign_in(whole)
    bench.remembered = memory
    assert n <= len(whole.sent)
    with pytest.raises(DeviceRemoved):
        bench.sign_in(link)
    assert len(link.sent) == n
    assert not link.in_transaction
    assert link.card.tries_left() == 3
    assert dict(bench.sign_in(DirectLink(link.card)).token)["format"] == "web-eid:1.0"


@pytest.mark.parametrize("cut_answer", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("n", range(1, 10))
def test_a_wrong_pin_costs_its_try_only_if_the_card_has_seen_it(bench: Bench, n: int, cut_answer: bool) -> None:
    link = cut_link(bench, Algorithm.P256, False, cut_at=n, cut_answer=cut_answer)
    with pytest.raises((DeviceRemoved, PinWrong)):
        bench.sign_in(link, WRONG_PIN)
    reached = [apdu for apdu in link.seen_by_card if apdu in link.verifies()]
    assert link.card.tries_left() == 3 - len(reached)
    assert len(link.verifies()) <= 1
    bench.sign_in(DirectLink(link.card), PIN)


@pytest.mark.parametrize("cut_answer", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("n", range(1, 8))
def test_card_without_discovery_object_pulled(bench: Bench, n: int, cut_answer: bool) -> None:
    card = bench.card(discovery=Discovery.NONE)
    bench.sign_in(DirectLink(card))
    link = DirectLink(card, cut_at=n, cut_answer=cut_answer)
    if n <= 6:
        with pytest.raises(DeviceRemoved):
            bench.sign_in(link)
    else:
        bench.sign_in(link)
    assert card.tries_left() == 3
    bench.sign_in(DirectLink(card))


@pytest.mark.parametrize("cut_answer", [False, True], ids=["before", "after"])
def test_card_pulled_during_a_survey(bench: Bench, cut_answer: bool) -> None:
    whole = DirectLink(bench.card())
    survey(whole, Never())
    for n in range(1, len(whole.sent) + 1):
        with pytest.raises(DeviceRemoved):
            survey(DirectLink(whole.card, cut_at=n, cut_answer=cut_answer), Never())
    assert survey(DirectLink(whole.card), Never()).tries_left == 3


def test_what_was_remembered_survives_a_pulled_card(bench: Bench) -> None:
    card = bench.card()
    bench.sign_in(DirectLink(card))
    before = dict(bench.remembered)
    with pytest.raises(DeviceRemoved):
        bench.sign_in(DirectLink(card, cut_at=6))
    assert bench.remembered == before
