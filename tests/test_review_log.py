"""What strangers say is one printable line of the log, in tracebacks too."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from tokenbridge import log

HOSTILE = "evil\x1b[2J\n2026-01-01 INFO tokenbridge.daemon: all is well"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger("tokenbridge")
    before = root.handlers[:], root.level, root.propagate
    stream = io.StringIO()
    log.configure("info", stream)
    yield stream
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_messages_and_tracebacks_are_neutralised(written: io.StringIO) -> None:
    logger = log.get("review")
    logger.info("%s", HOSTILE)
    try:
        raise ValueError("escape\x1b[2J")
    except ValueError:
        logger.exception("it %s", "failed")
    text = written.getvalue()
    assert "\x1b" not in text
    first, second, *traceback = text.splitlines()
    assert first.endswith("all is well")
    assert second.endswith("it failed")
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == "ValueError: escape?[2J"
