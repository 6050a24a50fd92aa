"""Folders for sockets are short enough, wherever temporary files lie."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig import socket_room
from tokenbridge.rig.socket_room import BELOW, MOST_PATH, fits, make_directory


def test_the_usual_place_is_taken_where_it_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        made = make_directory("demo-")
        assert made.parent == Path(short)


def test_under_a_long_path_another_place_is_found_and_a_socket_fits_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = make_directory("tokenbridge-demo-")
    below = made / ("y" * (BELOW - 1))
    try:
        assert list(long.iterdir()) == []
        assert made.stat().st_mode & 0o077 == 0
        assert fits(below)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(below))
    finally:
        below.unlink(missing_ok=True)
        made.rmdir()


def test_where_all_places_are_too_long_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(socket_room, "_places", lambda: iter([long]))
    with pytest.raises(SetupError) as caught:
        make_directory("demo-")
    assert "TMPDIR" in caught.value.hint


def test_the_limit_is_the_kernels(tmp_path: Path) -> None:
    longest = tmp_path / ("z" * (MOST_PATH - len(str(tmp_path)) - 1))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(longest))
    assert fits(longest)
    assert not fits(Path(f"{longest}z"))
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long"):
        one.bind(f"{longest}z")
