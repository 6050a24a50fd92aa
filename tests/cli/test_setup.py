"""`tokenbridge setup udev`: what it prints and how it ends."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenbridge.cli.main import cli
from tokenbridge.daemon import udev_setup

SOME_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def no_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev_setup, "_apply", lambda: False)


def _run(directory: Path, *words: str) -> Result:
    command = ["setup", "udev", "--directory", str(directory), *words]
    return CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)


def test_it_says_what_it_did(tmp_path: Path) -> None:
    assert "70-tokenbridge.rules written" in _run(tmp_path, "--group", SOME_GROUP).output
    assert "was up to date" in _run(tmp_path, "--group", SOME_GROUP).output
    assert "takes effect when it starts" in _run(tmp_path, "--group", SOME_GROUP).output
    assert "70-tokenbridge.rules removed" in _run(tmp_path, "--uninstall").output
    assert "was not there" in _run(tmp_path, "--uninstall").output


def test_a_dry_run_shows_the_rules(tmp_path: Path) -> None:
    shown = _run(tmp_path, "--group", SOME_GROUP, "--dry-run").output
    assert "would be written" in shown
    assert f'GROUP="{SOME_GROUP}"' in shown
    assert "is not there" in _run(tmp_path, "--uninstall", "--dry-run").output
    assert not list(tmp_path.iterdir())


def test_programs_get_json(tmp_path: Path) -> None:
    done = json.loads(_run(tmp_path, "--group", SOME_GROUP, "--json").output)["udev"]
    path = tmp_path / "70-tokenbridge.rules"
    assert done == {
        "path": str(path),
        "installed": True,
        "changed": True,
        "applied": False,
        "rules": path.read_text(),
        "dry_run": False,
    }
    gone = json.loads(_run(tmp_path, "--uninstall", "--json").output)["udev"]
    assert (gone["installed"], gone["changed"]) == (False, True)
