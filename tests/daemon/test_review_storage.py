"""What the bridge can't write down, or nobody reads, does not break or block a ceremony."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tokenbridge.card.base import KnownCard, PinReference, Slot
from tokenbridge.daemon import streams
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.prompts import Emit
from tokenbridge.daemon.streams import Streams

CARD = KnownCard(
    guid="ab" * 16, pin_reference=PinReference.APPLICATION, has_discovery=True, certificates={Slot.AUTHENTICATION: b"x"}
)


def test_a_memory_that_cannot_be_written_is_still_a_memory(tmp_path: Path) -> None:
    known = KnownCards(tmp_path / "missing" / "cards.json")
    known.put(CARD)
    assert known.get(CARD.guid) == CARD


@pytest.mark.parametrize("count", [streams.MAX_AHEAD * 2])
def test_a_caller_that_does_not_read_is_given_up(count: int, mocker: MockerFixture) -> None:
    mocker.patch.object(streams, "READ_SECONDS", 0.01)
    ended: list[str] = []

    async def talk(emit: Emit) -> dict[str, Any]:
        try:
            for number in range(count):
                await emit({"event": "step", "step": str(number)})
        finally:
            ended.append("tidied")
        return {}

    async def main() -> None:
        running = Streams()
        answer = running.respond(talk).body_iterator
        await anext(aiter(answer))  # and then nobody reads on
        (task,) = running._tasks
        assert (await task)["error"]["code"] == "cancelled"

    asyncio.run(main())
    assert ended == ["tidied"]
