"""What the bridge keeps in files: memory of cards, private directories, settings."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tokenbridge.card.base import KnownCard, PinReference, Slot
from tokenbridge.daemon import paths, settings
from tokenbridge.daemon.known_cards import MAX_CARDS, KnownCards
from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import SetupError


def known(number: int, der: bytes = b"DER") -> KnownCard:
    return KnownCard(
        guid=f"{number:032x}",
        pin_reference=PinReference.APPLICATION,
        has_discovery=True,
        certificates={Slot.AUTHENTICATION: der, Slot.SIGNATURE: b""},
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- memory of cards -------------------------------------------------------------------------------------------


def test_memory_outlives_the_bridge(tmp_path: Path) -> None:
    path = tmp_path / "cards.json"
    first = KnownCards(path)
    first.put(known(1))
    first.put(KnownCard(guid="g", pin_reference=PinReference.GLOBAL, has_discovery=False, certificates={}))
    again = KnownCards(path)
    assert again.get(known(1).guid) == known(1)
    other = again.get("g")
    assert other is not None
    assert (other.pin_reference, other.has_discovery) == (PinReference.GLOBAL, False)
    assert again.get("unknown") is None
    assert mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["cards.json"]


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cards.json"
    cards = KnownCards(path)
    cards.put(known(1))
    path.unlink()
    cards.put(known(1))
    assert not path.exists()
    cards.put(known(1, b"new"))
    assert KnownCards(path).get(known(1).guid) == known(1, b"new")


def test_the_latest_64_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "cards.json"
    cards = KnownCards(path)
    for number in range(MAX_CARDS):
        cards.put(known(number))
    cards.put(known(0, b"new"))
    cards.put(known(1000))
    assert cards.get(known(1).guid) is None
    again = KnownCards(path)
    assert again.get(known(0).guid) is not None
    assert len(json.loads(path.read_bytes())) == MAX_CARDS == 64


def test_memory_without_a_file() -> None:
    cards = KnownCards(None)
    cards.put(known(1))
    assert cards.get(known(1).guid) == known(1)


GOOD = {"guid": "g", "pin_reference": 128, "has_discovery": True, "certificates": {"9A": "AA=="}}
DAMAGED: dict[str, Any] = {
    "empty": b"",
    "no JSON": b"{",
    "bytes": b"\xff\xfe\0",
    "number": b"5",
    "list of numbers": b"[5]",
    "list of text": b'["g"]',
    "object": b"{}",
    "member missing": [{k: v for k, v in GOOD.items() if k != "certificates"}],
    "PIN unknown": [{**GOOD, "pin_reference": 5}],
    "slot unknown": [{**GOOD, "certificates": {"FF": ""}}],
    "slot no number": [{**GOOD, "certificates": {"zz": ""}}],
    "no base64": [{**GOOD, "certificates": {"9A": "*"}}],
    "certificates a list": [{**GOOD, "certificates": ["9A"]}],
    "certificates null": [{**GOOD, "certificates": None}],
    "certificate a number": [{**GOOD, "certificates": {"9A": 5}}],
    "deep": b"[" * 100_000,
    "too large": b" " * (4 << 20) + b"[]",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cards.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    cards = KnownCards(path)
    assert cards.get("g") is None
    if content != b"{}":
        assert "starts anew" in caplog.text
    cards.put(known(1))
    assert KnownCards(path).get(known(1).guid) == known(1)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cards.json"
    path.mkdir()
    assert KnownCards(path).get("g") is None


# --- directories -----------------------------------------------------------------------------------------------


def test_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    path = paths.private_directory(tmp_path / "a" / "b")
    assert mode(path) == 0o700
    assert paths.private_directory(path) == path


@pytest.mark.parametrize("before", [0o755, 0o777, 0o770, 0o701])
def test_a_directory_that_is_open_to_others_is_closed_to_them(tmp_path: Path, before: int) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(before)
    assert mode(paths.private_directory(path)) == 0o700


def test_links_and_files_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    link, dangling, file = tmp_path / "link", tmp_path / "dangling", tmp_path / "file"
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "nowhere")
    file.touch()
    for path in (link, dangling, file, file / "below"):
        with pytest.raises(SetupError) as caught:
            paths.private_directory(path)
        assert str(path) in caught.value.message
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, mocker) -> None:
    path = tmp_path / "a"
    path.mkdir(mode=0o700)
    mocker.patch.object(os, "getuid", return_value=os.getuid() + 1)
    with pytest.raises(SetupError) as caught:
        paths.private_directory(path)
    assert "does not belong to you" in caught.value.message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOKENBRIDGE_RUNTIME_DIR": "/x", "XDG_RUNTIME_DIR": "/y"}, "/x/bridge.sock"),
        ({"XDG_RUNTIME_DIR": "/y"}, "/y/tokenbridge/bridge.sock"),
    ],
)
def test_where_the_socket_is(environ: dict[str, str], expected: str) -> None:
    assert str(paths.socket_path(environ)) == expected
    assert paths.runtime_directory({}).is_absolute()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOKENBRIDGE_STATE_DIR": "/x"}, "/x/bridge.log"),
        ({"XDG_STATE_HOME": "/y"}, "/y/tokenbridge/bridge.log"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.local/state/tokenbridge/bridge.log"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/state/tokenbridge/bridge.log"),
    ],
)
def test_where_the_log_is(environ: dict[str, str], expected: str) -> None:
    assert str(paths.log_path(environ)) == expected


# --- settings --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "tokenbridge" / "bridge.toml"
    path.parent.mkdir()
    return path


def test_settings_from_the_users_file(file: Path) -> None:
    file.write_text('log_level = "debug"\nprompt_seconds = 30\nca_file = "~/ca.pem"\nremember_cards = false\n')
    loaded = settings.load()
    assert (loaded.log_level, loaded.prompt_seconds, loaded.remember_cards) == ("debug", 30.0, False)
    assert loaded.ca_file == Path("~/ca.pem").expanduser()


def test_environment_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("prompt_seconds = 30\n")
    monkeypatch.setenv("TOKENBRIDGE_PROMPT_SECONDS", "7.5")
    assert settings.load() == Settings(prompt_seconds=7.5)


@pytest.mark.parametrize("text", ["pin = 123456\n", "Prompt_seconds = 1\n", "[card]\nseconds = 1\n"])
def test_unknown_settings_are_errors_that_name_file_and_key(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SetupError) as caught:
        settings.load()
    assert str(file) in caught.value.message
    assert text.split(maxsplit=1)[0].strip("[]") in caught.value.message
    assert "prompt_seconds" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        'prompt_seconds = "long"\n',
        "remember_cards = 1\n",
        "log_level = 5\n",
        "ca_file = []\n",
        "prompt_seconds = true\n",
    ],
)
def test_wrong_types_are_errors(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SetupError) as caught:
        settings.load()
    assert text.split(maxsplit=1)[0] in caught.value.message


def test_an_unknown_log_level_is_a_matter_of_set_up(file: Path) -> None:
    file.write_text('log_level = "loud"\n')
    with pytest.raises(SetupError) as caught:
        settings.load()
    assert "log_level" in caught.value.message
