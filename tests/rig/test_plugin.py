"""The pytest plugin's options, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
def test_card(slots):
    pass

def test_erases(rig_wipe, rig_platform, rig_device):
    print(rig_platform, rig_device)
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tokenbridge.rig.plugin"]\n')
    (tmp_path / "test_it.py").write_text(TEST)
    return tmp_path


def run(suite: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-s", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False, timeout=60)


def test_a_real_card_must_be_named(suite: Path) -> None:
    done = run(suite, "--rig-platform", "real")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--rig-device" in done.stderr


def test_a_real_card_is_not_erased_unless_allowed(suite: Path) -> None:
    done = run(suite, "--rig-platform", "real", "--rig-device", "Reader 1")
    assert "2 skipped" in done.stdout
    assert "--rig-allow-wipe" in done.stdout
    done = run(suite, "--rig-platform", "real", "--rig-device", "Reader 1", "--rig-allow-wipe")
    assert "1 passed, 1 skipped" in done.stdout
    assert "real Reader 1" in done.stdout


def test_what_must_run_and_can_not_has_failed(suite: Path) -> None:
    done = run(suite, "--rig-platform", "real", "--rig-device", "Reader 1", "--rig-must-run")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 errors" in done.stdout
    assert "needs virtual readers" in done.stdout
