"""Secrets leave no trace, and a request knows when the last try is at stake."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest

from tokenbridge.interaction import PinRequest, Secret


def test_a_secret_never_prints(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(b"123456")
    with caplog.at_level(logging.INFO):
        logging.getLogger("x").info("%s %r", secret, secret)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>20}", "%s" % secret, repr([secret]), caplog.text]  # noqa: UP031  every way
    assert not any("123456" in text for text in shown)
    assert len(secret) == 6


def test_a_secret_is_never_pickled_copied_or_made_json() -> None:
    secret = Secret(b"123456")
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            act(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_wiping_overwrites_the_one_buffer() -> None:
    buffer = bytearray(b"123456")
    secret = Secret(buffer)
    revealed = secret.reveal()
    assert revealed is buffer
    secret.wipe()
    assert buffer == b""
    assert len(secret) == 0
    secret.wipe()


def test_a_secret_is_wiped_whatever_happens() -> None:
    secret = Secret.from_text("p\u00e4ss")
    assert secret.reveal() == "p\u00e4ss".encode()
    with pytest.raises(ZeroDivisionError), secret:
        raise ZeroDivisionError
    assert len(secret) == 0


def test_a_secret_of_bytes_is_a_buffer_of_its_own() -> None:
    given = b"123456"
    with Secret(given):
        pass
    assert given == b"123456"


@pytest.mark.parametrize(("tries", "last"), [(None, False), (0, False), (1, True), (2, False)])
def test_last_try(tries: int | None, last: bool) -> None:
    assert PinRequest(purpose="sign-in", tries_left=tries).last_try is last
