"""By what sites know a workstation: kept, private, and another one for each site."""

from __future__ import annotations

import stat
from pathlib import Path

from tokenbridge.daemon.workstation import FILE, WorkstationNames


def test_kept_and_different_for_each_site(tmp_path: Path) -> None:
    first = WorkstationNames(tmp_path).at("https://a.example")
    assert len(first) == 64
    assert WorkstationNames(tmp_path).at("https://a.example") == first
    assert WorkstationNames(tmp_path).at("https://b.example") != first
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"short")
    first = WorkstationNames(tmp_path).at("https://a.example")
    assert WorkstationNames(tmp_path).at("https://a.example") == first


def test_where_it_cannot_be_kept_it_is_new_at_each_start(tmp_path: Path) -> None:
    missing = tmp_path / "file"
    missing.write_text("")
    assert len(WorkstationNames(missing).at("https://a.example")) == 64
