"""`tokenbridge daemon logs` as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenbridge.cli.daemon import daemon
from tokenbridge.errors import SetupError

LINES = (
    "2026-11-24 04:18:55,244 INFO    tokenbridge.api: pin-wrong: SW=63C2\n",
    "2026-11-24 04:18:56,000 WARNING tokenbridge: TRAFFIC level\n",
    "Traceback (most recent call last):\n",
)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENBRIDGE_STATE_DIR", str(tmp_path))
    return tmp_path / "bridge.log"


def test_the_last_lines(log: Path) -> None:
    log.write_text("".join(LINES))
    assert CliRunner().invoke(daemon, ["logs"]).output == "".join(LINES)
    assert CliRunner().invoke(daemon, ["logs", "-n", "1"]).output == LINES[-1]


def test_lines_taken_apart(log: Path) -> None:
    log.write_text("".join(LINES))
    shown = [json.loads(line) for line in CliRunner().invoke(daemon, ["logs", "--json"]).output.splitlines()]
    assert shown[0] == {
        "time": "2026-11-24 04:18:55,244",
        "level": "INFO",
        "logger": "tokenbridge.api",
        "message": "pin-wrong: SW=63C2",
    }
    assert shown[1]["level"] == "WARNING"
    assert shown[2] == {"message": "Traceback (most recent call last):"}


def test_no_log_yet(log: Path) -> None:
    with pytest.raises(SetupError, match="no log"):
        CliRunner().invoke(daemon, ["logs"], catch_exceptions=False)
