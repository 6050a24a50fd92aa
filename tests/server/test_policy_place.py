"""The policy file replaced in one step: by link, with its mode, only if it is what was seen, and never by half."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import ended, go
from tests.server.conftest import Bench, now
from tokenbridge.errors import NotAllowedNow, Outdated, SetupError, TooMany
from tokenbridge.server import policy_place
from tokenbridge.server.administration import lock_out
from tokenbridge.server.policy_place import NO_FILE, PolicyPlace
from tokenbridge.server.store import policy_editions


@pytest.fixture
def place(tmp_path: Path) -> PolicyPlace:
    return PolicyPlace(path=tmp_path / "policy.toml")


def test_a_file_is_made_where_there_was_none(place: PolicyPlace):
    assert place.read().digest == NO_FILE
    assert place.replace(b"new", expected_digest=NO_FILE).digest == NO_FILE
    assert place.path.read_bytes() == b"new"
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600


def test_mode_and_link_stay(place: PolicyPlace, tmp_path: Path):
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "p.toml"
    real.write_bytes(b"old")
    real.chmod(0o640)
    place.path.symlink_to(real)
    before = place.replace(b"new", expected_digest=place.read().digest)
    assert before.content == b"old"
    assert place.path.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(real.parent) == ["p.toml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(place: PolicyPlace):
    place.path.write_bytes(b"old")
    os.chown(place.path, 1234, 1235)
    place.replace(b"new", expected_digest=place.read().digest)
    found = place.path.stat()
    assert (found.st_uid, found.st_gid) == (1234, 1235)


def test_a_file_that_was_changed_is_left_alone(place: PolicyPlace):
    place.path.write_bytes(b"old")
    seen = place.read().digest
    place.path.write_bytes(b"somebody else's")
    with pytest.raises(Outdated):
        place.replace(b"new", expected_digest=seen)
    assert place.path.read_bytes() == b"somebody else's"


def test_what_was_replaced_can_be_restored(place: PolicyPlace):
    place.restore(place.replace(b"new", expected_digest=NO_FILE))
    assert not place.path.exists()
    place.path.write_bytes(b"old")
    place.restore(place.replace(b"new", expected_digest=place.read().digest))
    assert place.path.read_bytes() == b"old"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(place: PolicyPlace, monkeypatch: pytest.MonkeyPatch):
    place.path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policy_place.os, "fsync", full)
    with pytest.raises(NotAllowedNow, match="No space left"):
        place.replace(b"new", expected_digest=place.read().digest)
    assert place.path.read_bytes() == b"old"
    assert os.listdir(place.path.parent) == ["policy.toml"]


def test_what_can_not_be_written_says_why(place: PolicyPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert place.hindrance == ""
    place.path.mkdir()
    assert "no regular file" in place.hindrance
    with pytest.raises(SetupError):
        place.read()
    place.path.rmdir()
    place.path.write_bytes(b"old")
    monkeypatch.setattr(policy_place.os, "geteuid", lambda: 4321)
    assert "another user" in place.hindrance
    with pytest.raises(NotAllowedNow, match="another user"):
        place.replace(b"new", expected_digest=place.read().digest)
    assert place.path.read_bytes() == b"old"
    assert "may not write" in PolicyPlace(path=tmp_path / "missing" / "policy.toml").hindrance


def test_a_file_that_is_too_large_is_not_taken_for_a_policy(place: PolicyPlace):
    place.path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SetupError, match="larger than 1 MiB"):
        place.read()


REPLACE = (
    "import sys; from pathlib import Path; from tokenbridge.errors import Outdated;"
    "from tokenbridge.server.operator import office; from tokenbridge.server.policy_place import PolicyPlace\n"
    "with office.opened(Path(sys.argv[1])) as opened:\n"
    "    place = PolicyPlace(path=opened.settings.policy_file)\n"
    "    print('ready', flush=True); sys.stdin.readline()\n"
    "    try:\n"
    "        with opened.database.write():\n"
    "            place.replace(sys.argv[2].encode(), expected_digest=sys.argv[3])\n"
    "    except Outdated:\n"
    "        print('outdated')\n"
    "    else:\n"
    "        print('won')\n"
)


def test_of_many_processes_one_is_first_and_the_others_are_told(fresh: Bench):
    place = PolicyPlace(path=fresh.data / "policy.toml")
    place.path.write_bytes(b"old")
    seen = place.read().digest
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REPLACE, str(fresh.data), f"text {number}", seen],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    with ended(*processes):
        go(processes, "ready")
        told = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(told) == ["outdated", "outdated", "outdated", "won"]
    assert place.path.read_text() == f"text {told.index('won')}"


def test_too_many_who_compare_at_once_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock_out, "AT_ONCE", 0)
    monkeypatch.setattr(lock_out, "PATIENCE", 0.05)
    with pytest.raises(TooMany):
        lock_out.Survey().effect(None, None, None, now())  # type: ignore[arg-type]


def test_only_the_newest_editions_are_kept(fresh: Bench):
    with fresh.office() as office:
        for number in range(policy_editions.KEPT + 3):
            with office.database.write() as tx:
                policy_editions.keep(tx, f"{number:064d}", b"text", now(), "alice")
        with office.database.read() as tx:
            found = policy_editions.listed(tx)
    assert len(found) == policy_editions.KEPT
    assert int(found[0].digest) == policy_editions.KEPT + 2
