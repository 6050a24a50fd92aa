"""The desktop entry for links of pages: written once, taken away again, judged by the desktop's own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenbridge.cli.setup import setup
from tokenbridge.daemon import browser_setup
from tokenbridge.errors import SetupError


def test_written_once_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    runner, path = CliRunner(), tmp_path / "applications" / browser_setup.FILE

    def ask(*words: str) -> str:
        done = runner.invoke(setup, ["browser", *words], catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    assert "would be written" in ask("--dry-run")
    assert not path.exists()
    assert json.loads(ask("--json"))["browser"]["changed"] is True
    text = path.read_text("utf-8")
    assert "MimeType=x-scheme-handler/tokenbridge;" in text
    assert 'tokenbridge" hand-over --desktop %u' in text
    assert "is as it should be" in ask()
    assert "would be removed" in ask("--uninstall", "--dry-run")
    assert "removed" in ask("--uninstall")
    assert not path.exists()
    assert "is as it should be" in ask("--uninstall")


def test_an_odd_path_is_refused() -> None:
    for odd in ('/opt/a"b/tokenbridge', "/opt/$HOME/tokenbridge", "/opt/%u/tokenbridge", "relative/tokenbridge"):
        with pytest.raises(SetupError):
            browser_setup.entry(Path(odd))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="can't be written"):
        browser_setup.install(Path("/usr/bin/tokenbridge"), directory=tmp_path / "file")


@pytest.mark.foreign
def test_the_desktops_own_tool_finds_no_fault(tmp_path: Path) -> None:
    tool = shutil.which("desktop-file-validate")
    assert tool is not None, "desktop-file-validate is missing: apt-get install desktop-file-utils"
    done = browser_setup.install(Path("/usr/bin/tokenbridge"), directory=tmp_path)
    checked = subprocess.run([tool, done.path], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")
