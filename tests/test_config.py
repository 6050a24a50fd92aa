"""Settings from file and environment: every error names its place."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge import config
from tokenbridge.daemon import settings as bridge_settings
from tokenbridge.errors import SetupError
from tokenbridge.server import settings as server_settings


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "x"
    count: int = 1
    seconds: float = 1.5
    on: bool = False
    file: Path | None = None
    urls: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def load(path: Path | None = None, **environ: str) -> Settings:
    return config.load(
        Settings, path, prefix="T", environ={f"T_{key.upper()}": value for key, value in environ.items()}
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_defaults_without_a_file(file: Path) -> None:
    assert load() == load(file) == Settings()


def test_every_kind_of_value(file: Path) -> None:
    file.write_text(
        'name = "y"\ncount = 2\nseconds = 3\non = true\nfile = "/a"\nurls = ["u", "v"]\nfiles = ["/b", "~/c"]\n'
    )
    assert load(file) == Settings(
        name="y",
        count=2,
        seconds=3.0,
        on=True,
        file=Path("/a"),
        urls=("u", "v"),
        files=(Path("/b"), Path("~/c").expanduser()),
    )


def test_every_kind_from_the_environment(file: Path) -> None:
    file.write_text("count = 2\n")
    found = load(file, name="5", count="7", seconds="2", on="yes", file="/a", urls=f"u{os.pathsep}v", files="")
    assert found == Settings(name="5", count=7, seconds=2.0, on=True, file=Path("/a"), urls=("u", "v"), files=())


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("no", False), ("0", False), ("False", False)]
)
def test_words_for_yes_and_no(text: str, value: bool) -> None:
    assert load(on=text).on is value


@pytest.mark.parametrize(
    ("variable", "value"), [("count", "many"), ("count", "1.5"), ("seconds", "long"), ("on", "perhaps"), ("count", "")]
)
def test_a_wrong_value_in_the_environment_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SetupError) as caught:
        load(**{variable: value})
    assert f"T_{variable.upper()}" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "name = 5",
        'count = "2"',
        "count = true",
        "count = 2.0",
        "on = 1",
        'seconds = "3"',
        "seconds = true",
        "file = 5",
        'urls = "u"',
        "urls = [5]",
        "[name]",
        "name = 2026-06-01",
    ],
)
def test_wrong_types_name_file_and_key(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SetupError) as caught:
        load(file)
    key = text.split(" ", maxsplit=1)[0].strip("[]")
    assert f"{file}: {key}" in caught.value.message


def test_unknown_keys_are_named_with_the_known_ones(file: Path) -> None:
    file.write_text("Name = 1\ncounter = 2\n")
    with pytest.raises(SetupError) as caught:
        load(file)
    assert "Name, counter" in caught.value.message
    assert "count" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [b"name = ", b"\xff\xfe", b"name = 'a'\nname = 'b'", b"#" * (1 << 20) + b"#"],
    ids=["cut", "bytes", "twice", "large"],
)
def test_files_that_cannot_be_read(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SetupError) as caught:
        load(file)
    assert str(file) in caught.value.message


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        load(tmp_path)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_file_is_settings_or_a_set_up_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    with contextlib.suppress(SetupError):
        assert isinstance(load(file), Settings)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"X": "/a", "HOME": "/h"}, "/a"),
        ({"X": "a", "HOME": "/h"}, "/h/.x"),
        ({"X": "", "HOME": "/h"}, "/h/.x"),
        ({"HOME": "/h"}, "/h/.x"),
        ({}, "/.x"),
    ],
)
def test_base_directories(environ: dict[str, str], expected: str) -> None:
    assert config.xdg("X", ".x", environ) == Path(expected)


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    for kind in (bridge_settings.Settings, server_settings.Settings):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in page, field.name
