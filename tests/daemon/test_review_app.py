"""A bridge whose starter has lost patience, and a runtime directory that is too long for a socket."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenbridge.daemon import app
from tokenbridge.daemon.client import BridgeClient
from tokenbridge.errors import SetupError

from .test_app import SECONDS, place

__all__ = ["place"]  # a fixture


def test_a_starter_that_is_gone_does_not_end_the_bridge(place: Path) -> None:
    ready, told = os.pipe()
    os.close(ready)
    with subprocess.Popen(
        [sys.executable, "-m", "tokenbridge", "daemon", "run", "--ready-fd", str(told)],
        pass_fds=(told,),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(told)
        try:
            assert process.stderr is not None
            # Without pcscd the monitor says so, before that line or after it.
            before = list(itertools.takewhile(lambda line: "listening" not in line, process.stderr))
            assert process.poll() is None, before
            bridge = BridgeClient(place / "run" / "bridge.sock")
            assert bridge.get("/v1/status")["pid"] == process.pid
            bridge.request("POST", "/v1/stop")
            _, log = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in "".join(before) + log


def test_a_path_that_is_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    with pytest.raises(SetupError) as caught, app._listener(directory):
        pass
    assert "TOKENBRIDGE_RUNTIME_DIR" in caught.value.hint
