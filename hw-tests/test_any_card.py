"""What holds for every PIV card, virtual or real: read only, no PIN."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from tokenbridge.card import sign_in
from tokenbridge.card.base import CardSnapshot
from tokenbridge.card.sign_in import Terms
from tokenbridge.transport.pcsc import Context, PcscLink
from tokenbridge.transport.worker import Cancel

SECONDS = 30


@pytest.fixture
def reader(request: pytest.FixtureRequest, rig_platform: str, rig_device: str) -> str:
    """The reader with the card under test. A name that fits none, or several, ends the run."""
    if rig_platform == "virtual":
        request.getfixturevalue("rig_card")
        return "Virtual PCD 00 00"
    context = Context()
    found = [name for name in context.readers() if rig_device in name]
    context.close()
    if len(found) != 1:
        pytest.exit(f"--rig-device {rig_device!r} fits {len(found)} readers", returncode=2)
    return found[0]


def _survey(reader: str) -> CardSnapshot:
    link = PcscLink(reader)
    try:
        return sign_in.survey(link, Cancel(time.monotonic() + SECONDS))
    finally:
        link.close()


def test_a_survey_spends_no_try_and_can_be_repeated(reader: str) -> None:
    first, second = _survey(reader), _survey(reader)
    assert first == second
    assert first.tries_left is None or first.tries_left > 0
    assert first.certificates


def test_a_card_that_was_surveyed_is_known(reader: str) -> None:
    surveyed = _survey(reader)
    known = surveyed.known()
    if known is None:
        pytest.skip("this card has no GUID, so it can't be recognised")
    link = PcscLink(reader)
    terms = Terms(issuers=(), algorithms=(), now=datetime.now(UTC))
    try:
        seen = sign_in.inspect(link, Cancel(time.monotonic() + SECONDS), {known.guid: known}.get, terms)
    finally:
        link.close()
    assert seen.guid == surveyed.guid
    assert seen.tries_left == surveyed.tries_left
